//go:build !linux

package inject

import "errors"

// FullDisk is for Linux only.
func FullDisk(int) (mend func() error, err error) {
	return nil, errors.New("a process's disk can be full on Linux only")
}
