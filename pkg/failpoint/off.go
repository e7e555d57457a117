//go:build !failpoints

package failpoint

import "time"

// Pass is where a point is that cannot fail.
func Pass(Point) {}

// After is where a point is that can fail. It is passed when err, that of what was just done, is nil; what After returns is
// to be taken for err.
func After(err error, _ Point) error { return err }

// Now is the wall clock.
func Now() time.Time { return time.Now() }
