package stack

import "syscall"

// attributes put a service into a process group of its own, so that Ctrl-C reaches only this process, which stops
// things in order; and have the kernel kill it when this process is gone.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
