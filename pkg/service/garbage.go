package service

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// gcPercent is Go's GOGC, unless the environment has one. Services live on few megabytes and make much garbage: with Go's
	// own 100 a tenth of their CPU goes into collecting it (docs/PERFORMANCE.md).
	gcPercent = 400
	// memoryLimit is Go's GOMEMLIMIT, in bytes, unless the environment has one: what gcPercent would let grow beyond it is
	// collected earlier.
	memoryLimit = 120 << 20
)

// collectGarbage sets how much garbage is let be.
func collectGarbage() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
		raiseLimit()
	}
}

// raiseLimit keeps the limit at twice of what is live at least, from one collection to the next. Below that Go would
// collect again and again, for up to half of the processors.
func raiseLimit() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	const step = 64 << 20 // each new limit stops the world
	wanted := max(memoryLimit, (2*int64(live[0].Value.Uint64())+step-1)/step*step)
	if wanted != debug.SetMemoryLimit(-1) {
		debug.SetMemoryLimit(wanted)
	}
	collected := new([16]byte)
	runtime.AddCleanup(collected, func(struct{}) { raiseLimit() }, struct{}{})
}
