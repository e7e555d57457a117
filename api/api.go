// Package api holds Orderflow's contracts as files: what the services say to each other and to the outside.
//
//   - schemas/: one JSON Schema (2020-12) a message; package events has the Go types.
//   - topics.yaml: every Kafka topic.
//   - asyncapi.yaml: who sends and who receives what.
//   - openapi/: one OpenAPI document a service; rest/ has the Go that is generated from it.
//   - released/: schemas and OpenAPI documents as they were last released, against which breaking changes are found.
//
// It promises that these agree with each other and with the Go beside them, by tests. It holds no behaviour and
// imports nothing else of this repository.
package api

import "embed"

// Schemas holds schemas/*.json.
//
//go:embed schemas/*.json
var Schemas embed.FS

// Topics is topics.yaml.
//
//go:embed topics.yaml
var Topics []byte

// AsyncAPI is asyncapi.yaml.
//
//go:embed asyncapi.yaml
var AsyncAPI []byte
