package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"time"

	"github.com/oidcauth/oidcauth/oidcauthtest/devprovider"
)

// keep runs a process until ctx ends, and starts it again three seconds after it was killed.
func keep(ctx context.Context, out io.Writer, name string, command func(context.Context) *exec.Cmd) {
	for ctx.Err() == nil {
		cmd := command(ctx)
		err := cmd.Start()
		if err == nil {
			fmt.Fprintf(out, "%s is process %d\n", name, cmd.Process.Pid)
			err = cmd.Wait()
		}
		if ctx.Err() == nil {
			fmt.Fprintf(out, "%s has ended: %v\n", name, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(3 * time.Second):
		}
	}
}

// redisServer is a Redis that forgets nothing that it has acknowledged.
func redisServer(ctx context.Context, addr, dir string) *exec.Cmd {
	_, port, _ := net.SplitHostPort(addr)
	return exec.CommandContext(ctx, "redis-server", "--bind", "127.0.0.1", "--port", port, "--dir", dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction")
}

// waitFor returns when somebody listens on addr, or ctx ends.
func waitFor(ctx context.Context, addr string) {
	for ctx.Err() == nil {
		if conn, err := net.Dial("tcp4", addr); err == nil {
			conn.Close()
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// environment is what the instances have in common.
func environment(provider *devprovider.Provider, baseURL, redis string) []string {
	o := provider.Options()
	return append(os.Environ(), "OIDC_ISSUER="+o.Issuer, "OIDC_CLIENT_ID="+o.ClientID,
		"OIDC_CLIENT_SECRET="+o.ClientSecret, "APP_BASE_URL="+baseURL, "SESSION_SECRET="+rand.Text()+rand.Text(), "REDIS_ADDR="+redis)
}

// startInstance is this program once more, as an instance of the application.
func startInstance(ctx context.Context, env []string, addr string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(env[:len(env):len(env)], "INSTANCE="+addr)
	cmd.Stderr = os.Stderr
	return cmd
}

// freeAddr is an address on which nobody listens now.
func freeAddr() string {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
