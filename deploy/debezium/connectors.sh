#!/bin/bash
# Tells Debezium to read each service's outbox from PostgreSQL's log. What it reads goes to topics of their own, cdc.<topic>,
# with the key, the bytes and the headers that the relay sends to <topic>: to compare the two, or to let it take the
# relay's place.
set -euo pipefail
for service in order inventory payment shipping notification analytics; do
	echo "connector $service"
	curl -sSf -o /dev/null -X PUT -H 'Content-Type: application/json' "http://debezium:8083/connectors/$service-outbox/config" -d @- <<-JSON
		{
		  "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
		  "database.hostname": "postgres", "database.port": "5432", "database.dbname": "$service",
		  "database.user": "postgres", "database.password": "$POSTGRES_PASSWORD",
		  "topic.prefix": "cdc-$service", "plugin.name": "pgoutput", "slot.name": "cdc_$service",
		  "publication.name": "cdc", "publication.autocreate.mode": "filtered", "table.include.list": "public.outbox",
		  "snapshot.mode": "no_data", "tombstones.on.delete": "false", "extended.headers.enabled": "false",
		  "transforms": "outbox",
		  "transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter",
		  "transforms.outbox.route.by.field": "topic",
		  "transforms.outbox.route.topic.replacement": "cdc.\${routedByValue}",
		  "transforms.outbox.table.field.event.key": "aggregateid",
		  "transforms.outbox.table.fields.additional.placement": "type:header:ce_type,headers:header:headers",
		  "topic.creation.default.partitions": "6", "topic.creation.default.replication.factor": "1"
		}
	JSON
done
