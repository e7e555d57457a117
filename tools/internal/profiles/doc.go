// Package profiles runs what docker-compose.yml's profiles obs and cdc add, without containers: the real programs, with the
// commands, environments and files that Compose gives them. It has tests only; they need what the native stack needs, the
// services' binaries, Prometheus, Alertmanager and Debezium:
//
//	make test-profiles-native
//
// It promises that the configuration works, and not that the images do: versions differ where a distribution's differ.
package profiles
