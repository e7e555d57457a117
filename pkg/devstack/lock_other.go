//go:build !unix

package devstack

import (
	"errors"
	"os"
)

// ErrInUse says that another process has locked the file.
var ErrInUse = errors.New("in use by another stack")

// Lock only makes the file: there is no lock here that ends with its process, so a second stack is not refused.
func Lock(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the path is the operator's own
}
