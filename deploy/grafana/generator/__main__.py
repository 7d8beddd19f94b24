"""`python -m deploy.grafana.generator DIRECTORY` writes all dashboards there."""

import sys
from pathlib import Path

from deploy.grafana.generator import dashboards

for name, content in dashboards().items():
    Path(sys.argv[1], name).write_text(content, encoding="utf-8")
