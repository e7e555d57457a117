//go:build !linux

package stack

import "syscall"

// attributes are the system's own here: nothing like Linux's Pdeathsig is there.
func attributes() *syscall.SysProcAttr { return nil }
