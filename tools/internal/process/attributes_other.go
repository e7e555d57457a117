//go:build !linux

package process

import "syscall"

// attributes are the system's own here: nothing like Linux's Pdeathsig is there, and nobody runs as somebody else.
func attributes(*User) *syscall.SysProcAttr { return nil }
