"""A farm's own RabbitMQ takes nothing from the system's configuration."""

from pathlib import Path

from deploy.farm.rabbitmq import node_environment


def test_every_file_of_a_private_nodes_configuration_is_its_own(tmp_path: Path) -> None:
    environment = node_environment(tmp_path, "private", 1, 2)
    for name in (
        "RABBITMQ_CONFIG_FILE",
        "RABBITMQ_CONFIG_FILES",
        "RABBITMQ_ADVANCED_CONFIG_FILE",
        "RABBITMQ_CONF_ENV_FILE",
        "RABBITMQ_ENABLED_PLUGINS_FILE",
    ):
        assert Path(environment[name]).is_relative_to(tmp_path)
