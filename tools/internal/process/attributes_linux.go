package process

import "syscall"

// capDACReadSearch lets a program pass folders that only root may enter (capabilities(7)).
const capDACReadSearch = 2

// attributes put a program into a process group of its own, so that Ctrl-C reaches only this process, which stops
// things in order; and have the kernel kill it when this process is gone.
func attributes(as *User) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if as != nil {
		attr.Credential = &syscall.Credential{Uid: as.UID, Gid: as.GID}
		// Its folder may lie below one of root's that nobody else may enter, as temporary folders do.
		attr.AmbientCaps = []uintptr{capDACReadSearch}
	}
	return attr
}
