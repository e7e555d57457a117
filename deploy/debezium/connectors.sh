#!/bin/bash
# Tells Debezium to read each service's outbox from PostgreSQL's log. What the relay sends to <topic> it sends to
# cdc.<topic>, at least once: the same partition, key and bytes, in the same order of each key. Kafka Connect cannot make
# many headers of one column, so all that the relay sends are one here, `headers`, a JSON object; `id` is ce_id.
set -euo pipefail
for service in order inventory payment shipping notification analytics; do
	echo "connector $service"
	# lsn.flush.mode: also a database that says nothing lets PostgreSQL remove its log.
	answer=$(curl -sS --fail-with-body -X PUT -H 'Content-Type: application/json' "${CONNECT_URL:-http://debezium:8083}/connectors/$service-outbox/config" -d @- <<-JSON
		{
		  "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
		  "database.hostname": "${POSTGRES_HOST:-postgres}", "database.port": "${POSTGRES_PORT:-5432}", "database.dbname": "$service",
		  "database.user": "postgres", "database.password": "$POSTGRES_PASSWORD",
		  "topic.prefix": "cdc-$service", "plugin.name": "pgoutput", "slot.name": "cdc_$service",
		  "publication.name": "cdc", "publication.autocreate.mode": "filtered", "table.include.list": "public.outbox",
		  "lsn.flush.mode": "connector_and_driver",
		  "snapshot.mode": "no_data", "tombstones.on.delete": "false", "extended.headers.enabled": "false",
		  "header.converter": "org.apache.kafka.connect.storage.StringConverter",
		  "transforms": "outbox",
		  "transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter",
		  "transforms.outbox.route.by.field": "topic",
		  "transforms.outbox.route.topic.replacement": "cdc.\${routedByValue}",
		  "transforms.outbox.table.field.event.key": "aggregateid",
		  "transforms.outbox.table.fields.additional.placement": "headers:header:headers",
		  "topic.creation.default.partitions": "6", "topic.creation.default.replication.factor": "1"
		}
	JSON
	) || { echo "$answer" >&2; exit 1; }
done
