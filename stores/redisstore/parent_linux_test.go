package redisstore_test

import "syscall"

// dieWithParent has the kernel end a server whose test panicked or was killed, before its clean-up.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
