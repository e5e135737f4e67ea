// Redis is two instances of one application behind a proxy, with the sessions in Redis. Any of them may be killed at any
// time, Redis too, and nobody is signed out:
//
//	cd examples/redis
//	go run .
//
// It starts a provider to sign in at, and a redis-server unless REDIS_ADDR names one. What one instance does is in
// app.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/oidcauth/oidcauth/oidcauthtest/devprovider"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:3000", "`address` to listen on, of this machine")
	pause := flag.Duration("pause", 3*time.Second, "after which a process that was killed is started again")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if name := os.Getenv("INSTANCE"); name != "" {
		err = serveInstance(ctx, name)
	} else {
		err = run(ctx, *addr, *pause, os.Stdout)
	}
	if err != nil {
		log.Fatal("redis: ", err)
	}
}

// run serves the application on addr until ctx ends, with processes of its own.
func run(ctx context.Context, addr string, pause time.Duration, out io.Writer) error {
	listener, err := net.Listen("tcp4", addr)
	if err != nil {
		return fmt.Errorf("%w; choose another port with -addr 127.0.0.1:0", err)
	}
	defer listener.Close()
	baseURL := "http://" + listener.Addr().String()

	// A provider where anybody signs in as anybody: only for trying things out, and only on this machine.
	provider, err := devprovider.Listen(devprovider.Options{BaseURL: baseURL})
	if err != nil {
		return err
	}
	defer provider.Close()

	processes := &processes{ctx: ctx, pause: pause, out: out}
	defer processes.wait()
	redisAddr := os.Getenv("REDIS_ADDR")
	if redisAddr == "" {
		dir, err := os.MkdirTemp("", "redis-example-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	return nil
}
