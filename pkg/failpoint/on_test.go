//go:build failpoints

package failpoint

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/fault"
)

// The test binary is also the process that dies.
func TestMain(m *testing.M) {
	if os.Getenv("CHILD") != "" {
		fmt.Println(After(nil, ConsumerBeforeCommit), Now().Year())
		return
	}
	os.Exit(m.Run())
}

func tell(t *testing.T, l *listener, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(l.file+".new", []byte(text+"\n"), 0o600))
	require.NoError(t, os.Rename(l.file+".new", l.file))
}

func listening(t *testing.T) *listener { return told(t.TempDir(), "payment-1") }

func TestPointFailsOnceAndOnlyTheOneThatWasNamed(t *testing.T) {
	t.Parallel()
	l := listening(t)
	require.NoError(t, l.meet(ConsumerBeforeCommit, true), "nobody told it anything")
	tell(t, l, "consumer-before-commit fail")
	require.NoError(t, l.meet(ConsumerAfterCommit, true))
	require.NoError(t, told(filepath.Dir(l.file), "payment-2").meet(ConsumerBeforeCommit, true), "another instance")
	require.FileExists(t, l.file)

	var failed atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if err := l.meet(ConsumerBeforeCommit, true); fault.KindOf(err) == fault.Unavailable {
				failed.Add(1)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, failed.Load())
	require.NoFileExists(t, l.file)
}

func TestPointHangsForAsLongAsItWasTold(t *testing.T) {
	t.Parallel()
	l := listening(t)
	tell(t, l, "relay-before-send hang 150ms")
	began := time.Now()
	require.NoError(t, l.meet(RelayBeforeSend, true))
	require.GreaterOrEqual(t, time.Since(began), 150*time.Millisecond)
}

func TestWhatCannotBeDoneIsNotDone(t *testing.T) {
	t.Parallel()
	l := listening(t)
	for _, text := range []string{"relay-before-send", "relay-before-send explode", "relay-before-send hang", "relay-before-send hang soon"} {
		tell(t, l, text)
		require.NoError(t, l.meet(RelayBeforeSend, true), text)
		require.NoFileExists(t, l.file, text)
	}
	tell(t, l, "offset-before-commit fail")
	require.NoError(t, l.meet(OffsetBeforeCommit, false), "it has no error to return")
}

func TestProcessDiesAtThePointAndItsClockIsOff(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run := func() (string, error) {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "CHILD=1", EnvDir+"="+dir, EnvInstance+"=payment-1")
		out, err := cmd.Output()
		return string(out), err
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "payment-1.clock"), []byte("-876000h"), 0o600))
	out, err := run()
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("<nil> %d\n", time.Now().Add(-876000*time.Hour).Year()), out)

	require.NoError(t, os.WriteFile(filepath.Join(dir, "payment-1"), []byte("consumer-before-commit die"), 0o600))
	out, err = run()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal())
	require.Empty(t, out)
	require.NoFileExists(t, filepath.Join(dir, "payment-1"))
}

func TestClockJumpsAndMonotonicTimeGoesOn(t *testing.T) {
	t.Parallel()
	l := listening(t)
	first, real := l.now(), time.Now()
	for _, minutes := range []time.Duration{7, -9, 0} {
		require.NoError(t, os.WriteFile(l.clock, []byte((minutes*time.Minute).String()), 0o600))
		var now time.Time
		require.Eventually(t, func() bool {
			now = l.now()
			off := now.Round(0).Sub(real.Round(0)) - minutes*time.Minute
			return off >= 0 && off < 30*time.Second
		}, 30*time.Second, time.Millisecond)
		require.Less(t, now.Sub(first), 2*time.Minute, "how long it took")
		require.GreaterOrEqual(t, now.Sub(first), time.Duration(0))
		require.Equal(t, now.Nanosecond(), now.Round(0).Nanosecond())
		require.Contains(t, now.String(), "m=")
	}
}
