//go:build failpoints

package failpoint

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/orderflow/orderflow/pkg/fault"
)

// Pass is where a point is that cannot fail.
func Pass(p Point) { _ = process.meet(p, false) }

// After is where a point is that can fail. It is passed when err, that of what was just done, is nil; what After returns is
// to be taken for err.
func After(err error, p Point) error {
	if err != nil {
		return err
	}
	return process.meet(p, true)
}

// Now is the wall clock, as far off as the process was told.
func Now() time.Time { return process.now() }

// process is this one; without both variables it is told nothing.
var process = told(os.Getenv(EnvDir), os.Getenv(EnvInstance))

// listener is what a process was told, as far as it has looked.
type listener struct {
	// file and clock are paths, empty when nobody tells.
	file, clock string
	began       time.Time
	// offset is how far the clock is off, in seconds, and looked when that was read, in nanoseconds since began.
	offset, looked atomic.Int64
}

func told(dir, instance string) *listener {
	l := &listener{began: time.Now()}
	if dir != "" && instance != "" {
		l.file = filepath.Join(dir, instance)
		l.clock = l.file + ".clock"
	}
	l.looked.Store(-int64(lookEvery))
	return l
}

// lookEvery is how often the clock's file is read at most.
const lookEvery = 10 * time.Millisecond

func (l *listener) meet(p Point, fails bool) error {
	if l.file == "" {
		return nil
	}
	text, err := os.ReadFile(l.file)
	if err != nil {
		return nil
	}
	words := strings.Fields(string(text))
	if len(words) == 0 || words[0] != string(p) {
		return nil
	}
	if os.Remove(l.file) != nil {
		return nil // another goroutine came here first
	}
	action := strings.Join(words[1:], " ")
	fmt.Fprintf(os.Stderr, "failpoint %s: %s\n", p, action)
	switch {
	case action == "die":
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Kill()
		}
		if err == nil {
			select {} // the others may go on for a moment, this one does not
		}
		fmt.Fprintf(os.Stderr, "failpoint %s: cannot die: %v\n", p, err)
	case action == "fail" && fails:
		return fault.Unavailablef("failpoint %s", p)
	case len(words) == 3 && words[1] == "hang":
		d, err := time.ParseDuration(words[2])
		if err == nil {
			<-time.After(d)
			return nil
		}
		fmt.Fprintf(os.Stderr, "failpoint %s: %v\n", p, err)
	default:
		fmt.Fprintf(os.Stderr, "failpoint %s: %q is not done here, must be die, hang and a duration, or where an error can be returned fail\n", p, action)
	}
	return nil
}

func (l *listener) now() time.Time {
	now := time.Now()
	if l.clock == "" {
		return now
	}
	at, looked := int64(now.Sub(l.began)), l.looked.Load()
	if at-looked >= int64(lookEvery) && l.looked.CompareAndSwap(looked, at) {
		l.look()
	}
	return moved(now, l.offset.Load())
}

func (l *listener) look() {
	offset := int64(0)
	if text, err := os.ReadFile(l.clock); err == nil {
		d, err := time.ParseDuration(strings.TrimSpace(string(text)))
		if err != nil {
			fmt.Fprintf(os.Stderr, "failpoint clock: %v\n", err)
			return
		}
		offset = int64(d / time.Second)
	}
	if was := l.offset.Swap(offset); was != offset {
		fmt.Fprintf(os.Stderr, "failpoint clock: %+d s\n", offset)
	}
}

// moved is t with its wall clock that many seconds further on and its monotonic reading as it is, which nothing in package
// time does. A Time that has both begins with a word of which the 33 bits above the nanoseconds' 30 count seconds.
func moved(t time.Time, seconds int64) time.Time {
	*(*uint64)(unsafe.Pointer(&t)) += uint64(seconds) << 30
	return t
}
