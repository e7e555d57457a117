//go:build unix

package devstack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// ErrInUse says that another process has locked the file.
var ErrInUse = errors.New("in use by another stack")

// Lock takes a file, which it makes, for this process, until it is closed or the process ends, however it ends.
func Lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = fmt.Errorf("%s is %w", filepath.Dir(path), ErrInUse)
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
