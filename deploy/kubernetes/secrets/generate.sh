#!/bin/sh
# Generates what the cluster's Secrets hold, in generated/ beside this file, which git ignores:
#
#     PYTHON=.venv/bin/python sh deploy/kubernetes/secrets/generate.sh
#
# A password is made once and kept; delete its file, generate and apply again, and restart RabbitMQ, to have a new one.
set -eu
umask 077
cd "$(dirname "$0")/../../.."
generated=deploy/kubernetes/secrets/generated

"${PYTHON:-python3}" -m shared.broker generate "$generated" --listen 5672 --server-directory /etc/nasfarm
# Where KEDA asks how long the queues are.
printf 'http://%s@rabbitmq.nasfarm.svc:15672/nasfarm' "$(cat "$generated/credentials/monitoring")" >"$generated/management"
