package inject

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// FullDisk has every write of a process to a file fail (EFBIG, "file too large") until mended: to SQLite and to its log
// alike. What it has written stays, and it can read. Pipes and sockets are no files.
func FullDisk(pid int) (mend func() error, err error) {
	var was unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, nil, &was); err != nil {
		return nil, fmt.Errorf("fill the disk of process %d: %w", pid, err)
	}
	// The hard limit stays, or only root could lift it again.
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 0, Max: was.Max}, nil); err != nil {
		return nil, fmt.Errorf("fill the disk of process %d: %w", pid, err)
	}
	return func() error {
		err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &was, nil)
		if err != nil && !errors.Is(err, unix.ESRCH) { // it may have died meanwhile
			return fmt.Errorf("empty the disk of process %d: %w", pid, err)
		}
		return nil
	}, nil
}
