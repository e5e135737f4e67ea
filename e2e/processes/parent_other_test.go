//go:build !linux

package processes

import (
	"bytes"
	"os/exec"
	"strconv"
	"syscall"
)

func dieWithParent() *syscall.SysProcAttr { return nil }

// isStopped asks ps, which tells no threads apart.
func isStopped(pid int) bool {
	state, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && bytes.HasPrefix(state, []byte("T"))
}
