package redisstore_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// shiftedClock is a library that moves the clock of a process. Debian's faketime does not get on with Redis' allocator.
const shiftedClock = `
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *ts) {
	int r = syscall(SYS_clock_gettime, id, ts);
	if (r == 0 && id == CLOCK_REALTIME) ts->tv_sec += SHIFT;
	return r;
}

int gettimeofday(struct timeval *restrict tv, void *restrict tz) {
	int r = syscall(SYS_gettimeofday, tv, tz);
	if (r == 0 && tv) tv->tv_sec += SHIFT;
	return r;
}

time_t time(time_t *t) {
	struct timeval tv;
	gettimeofday(&tv, 0);
	if (t) *t = tv.tv_sec;
	return tv.tv_sec;
}
`

// clock returns the environment of a server whose clock is that much ahead.
func clock(t *testing.T, ahead time.Duration) []string {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("gcc is not installed")
		}
		t.Skip("gcc is not installed")
	}
	dir := t.TempDir()
	source, library := filepath.Join(dir, "clock.c"), filepath.Join(dir, "clock.so")
	must(t, os.WriteFile(source, []byte(shiftedClock), 0o600))
	shift := "-DSHIFT=" + strconv.Itoa(int(ahead/time.Second))
	gcc := exec.Command("gcc", "-shared", "-fPIC", "-w", shift, "-o", library, source)
	if out, err := gcc.CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v: %s", err, out)
	}
	return []string{"LD_PRELOAD=" + library}
}

// S06: by whatever clock servers keep time, two seconds from now are two seconds.
func TestClocksMayDifferByAnHour(t *testing.T) {
	t.Parallel()
	now := func(t *testing.T, s *server, want time.Duration) {
		t.Helper()
		at, err := s.client().Time(t.Context()).Result()
		must(t, err)
		if got := time.Until(at).Round(time.Minute); got != want {
			t.Fatalf("the clock of the server is %v ahead, want %v", got, want)
		}
	}
	for name, ahead := range map[string]time.Duration{"ahead": time.Hour, "behind": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := startServerWith(t, clock(t, ahead))
			now(t, server, ahead)
			contract(t, server.client())
		})
	}
	t.Run("of nodes", func(t *testing.T) {
		t.Parallel()
		nodes := startClusterWith(t, [3][]string{clock(t, time.Hour), nil, clock(t, -time.Hour)})
		now(t, nodes[0], time.Hour)
		now(t, nodes[2], -time.Hour)
		contract(t, nodes.client(t))
	})
}
