"""The custom resources that the farm's operators take, as far as the farm uses them; anything else in one is refused.

Written after the documentation of KEDA 2.18, of the Prometheus operator and of RabbitMQ's cluster operator 2: their own
schemas come in no package that would refuse unknown fields. One that is missing here may well exist: look it up.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter
from pydantic.alias_generators import to_camel

Duration = Annotated[str, StringConstraints(pattern=r"^\d+(ms|s|m|h)$")]
Text = Annotated[str, StringConstraints(strict=True, min_length=1)]


class Part(BaseModel):
    """Knows all its fields, by the names they have in YAML: capitals inside instead of underscores."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


class Metadata(Part):
    name: Text
    namespace: Text
    labels: dict[Text, Text] = {}
    annotations: dict[Text, Text] = {}


class Resource(Part):
    metadata: Metadata


class LabelRequirement(Part):
    key: Text
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[Text] = []


class Selector(Part):
    match_labels: dict[Text, Text] = {}
    match_expressions: list[LabelRequirement] = []


# KEDA


class Reference(Part):
    name: Text


class RabbitMetadata(Part):
    """Every value is text, numbers and truths too."""

    protocol: Literal["auto", "http", "amqp"]
    mode: Literal["QueueLength", "MessageRate", "DeliverGetRate"]
    value: Annotated[str, StringConstraints(strict=True, pattern=r"^\d+(\.\d+)?$")]
    queue_name: Text
    use_regex: Literal["true", "false"]
    operation: Literal["sum", "max", "avg"]


class Trigger(Part):
    type: Literal["rabbitmq"]
    metadata: RabbitMetadata
    authentication_ref: Reference


class Policy(Part):
    type: Literal["Percent", "Pods"]
    value: int = Field(gt=0)
    period_seconds: int = Field(gt=0, le=1800)


class ScalingRules(Part):
    stabilization_window_seconds: int = Field(ge=0, le=3600)
    policies: list[Policy]


class Behaviour(Part):
    scale_down: ScalingRules


class AutoscalerConfig(Part):
    behavior: Behaviour


class Advanced(Part):
    horizontal_pod_autoscaler_config: AutoscalerConfig


class ScaledObjectSpec(Part):
    scale_target_ref: Reference
    min_replica_count: int = Field(ge=0)
    max_replica_count: int = Field(gt=0)
    polling_interval: int = Field(gt=0)
    cooldown_period: int = Field(ge=0)
    advanced: Advanced
    triggers: list[Trigger] = Field(min_length=1)


class ScaledObject(Resource):
    api_version: Literal["keda.sh/v1alpha1"]
    kind: Literal["ScaledObject"]
    spec: ScaledObjectSpec


class SecretTarget(Part):
    parameter: Literal["host", "username", "password"]
    name: Text
    key: Text


class TriggerAuthenticationSpec(Part):
    secret_target_ref: list[SecretTarget] = Field(min_length=1)


class TriggerAuthentication(Resource):
    api_version: Literal["keda.sh/v1alpha1"]
    kind: Literal["TriggerAuthentication"]
    spec: TriggerAuthenticationSpec


# The Prometheus operator


class PodMetricsEndpoint(Part):
    port: Text
    path: Text = "/metrics"
    params: dict[Text, list[Text]] = {}
    interval: Duration


class PodMonitorSpec(Part):
    job_label: Text
    selector: Selector
    pod_metrics_endpoints: list[PodMetricsEndpoint] = Field(min_length=1)


class PodMonitor(Resource):
    api_version: Literal["monitoring.coreos.com/v1"]
    kind: Literal["PodMonitor"]
    spec: PodMonitorSpec


class Alert(Part):
    alert: Text
    expr: Text
    duration: Duration | None = Field(default=None, alias="for")
    labels: dict[Text, Text]
    annotations: dict[Text, Text]


class RuleGroup(Part):
    name: Text
    rules: list[Alert] = Field(min_length=1)


class PrometheusRuleSpec(Part):
    groups: list[RuleGroup] = Field(min_length=1)


class PrometheusRule(Resource):
    api_version: Literal["monitoring.coreos.com/v1"]
    kind: Literal["PrometheusRule"]
    spec: PrometheusRuleSpec


# RabbitMQ's cluster operator


class Persistence(Part):
    storage: Text
    storage_class_name: Text | None = None


class Resources(Part):
    requests: dict[Literal["cpu", "memory"], Text]
    limits: dict[Literal["cpu", "memory"], Text]


class RabbitConfiguration(Part):
    additional_config: Annotated[str, StringConstraints(max_length=2000)]


class PodTemplate(Part):
    spec: dict[str, Any]
    """Merged into the pods' own; Kubernetes' schema checks it."""


class StatefulSetSpec(Part):
    template: PodTemplate


class StatefulSet(Part):
    spec: StatefulSetSpec


class Override(Part):
    stateful_set: StatefulSet


class RabbitmqClusterSpec(Part):
    replicas: Literal[1, 3, 5]
    image: Text
    persistence: Persistence
    resources: Resources
    rabbitmq: RabbitConfiguration
    override: Override


class RabbitmqCluster(Resource):
    api_version: Literal["rabbitmq.com/v1beta1"]
    kind: Literal["RabbitmqCluster"]
    spec: RabbitmqClusterSpec


CustomResource = Annotated[
    ScaledObject | TriggerAuthentication | PodMonitor | PrometheusRule | RabbitmqCluster, Field(discriminator="kind")
]
CUSTOM_RESOURCE: TypeAdapter[CustomResource] = TypeAdapter(CustomResource)
