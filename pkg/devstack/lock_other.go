//go:build !unix

package devstack

import "os"

// lock only marks the directory: there is no lock here that ends with its process, so a second stack is not refused.
func lock(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the path is the operator's own
}
