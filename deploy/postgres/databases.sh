#!/bin/bash
# Makes a database and a role for each service when the server is new. A role reaches its own database and no other.
set -euo pipefail
for service in order inventory payment shipping notification analytics; do
	psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres --no-psqlrc --set=service="$service" --set=password="$SERVICE_PASSWORD" <<-'SQL'
		CREATE ROLE :"service" LOGIN PASSWORD :'password';
		CREATE DATABASE :"service" OWNER :"service";
		REVOKE CONNECT ON DATABASE :"service" FROM PUBLIC;
	SQL
done
