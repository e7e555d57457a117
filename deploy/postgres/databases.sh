#!/bin/bash
# Makes a database and a role for each service when the server is new. A role reaches its own database and no other, and each
# has a password of its own: what one service knows opens nothing of another's.
set -euo pipefail
for service in order inventory payment shipping notification analytics; do
	password="${service^^}_DATABASE_PASSWORD"
	psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres --no-psqlrc --set=service="$service" --set=password="${!password:?}" <<-'SQL'
		CREATE ROLE :"service" LOGIN PASSWORD :'password';
		CREATE DATABASE :"service" OWNER :"service";
		REVOKE CONNECT ON DATABASE :"service" FROM PUBLIC;
	SQL
done
psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres --no-psqlrc --command 'REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC'
