// Package observe is how a process says what it does: logs (slog), spans (OpenTelemetry) and metrics (Prometheus).
//
// A log line carries the trace of the context that it was written under and the attributes that With put there, so a
// caller names an order once and every line below has it. Passwords in URLs and values under telling names are masked
// in every line.
//
// It promises that trace ids exist and travel whether or not spans are exported, and that nothing here is global: what
// is made is returned. It does not promise that a span or a line arrives anywhere, and it drops spans rather than
// hold up the work that they describe.
package observe
