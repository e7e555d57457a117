package service

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A service that comes to hold much must not spend its time on collecting what is not garbage.
func TestTheMemoryLimitGivesWayToWhatIsLive(t *testing.T) { //nolint:paralleltest // the limit is the process's
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	before := debug.SetGCPercent(-1)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	collectGarbage()
	limit := func() int64 {
		runtime.GC()
		return debug.SetMemoryLimit(-1)
	}
	require.EqualValues(t, memoryLimit, limit())
	held := make([]byte, 200<<20)
	require.Eventually(t, func() bool { return limit() >= 400<<20 }, 10*time.Second, time.Millisecond)
	runtime.KeepAlive(held)
	held = nil //nolint:ineffassign,wastedassign // it is let go
	require.Eventually(t, func() bool { return limit() == memoryLimit }, 10*time.Second, time.Millisecond)
}
