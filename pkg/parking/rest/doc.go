// Package rest is the contract of the list of parked keys: server, client and models generated from openapi.yaml.
package rest

//go:generate env GOWORK=off go tool -modfile=../../../tools/build/go.mod oapi-codegen -config oapi-codegen.yaml openapi.yaml
