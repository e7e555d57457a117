// Package rest serves the order service's API: one file a use case.
package rest
