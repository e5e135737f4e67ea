// Redis is a web application that runs as two processes behind a proxy which sends requests to them by turns. Its
// sessions are in Redis, so that it does not matter which of them answers, nor whether one is killed. It starts all
// that it needs on this machine, Redis too if there is a redis-server and REDIS_ADDR names no other:
//
//	go run ./examples/redis
//
// Sign in, kill a process (kill -9), and reload. What was killed is started again after three seconds. The application
// is in app.go, and what starts the processes in processes.go.
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
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/oidcauth/oidcauth/oidcauthtest/devprovider"
)

func main() {
	if addr := os.Getenv("INSTANCE"); addr != "" { // one of the processes that run has started
		log.Fatal("redis: ", instance(addr))
	}
	addr := flag.String("addr", "127.0.0.1:3000", "`address` to listen on, of this machine")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, os.Stdout); err != nil {
		log.Fatal("redis: ", err)
	}
}

// run serves the application on addr until ctx ends.
func run(ctx context.Context, addr string, out io.Writer) error {
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
	dir, err := os.MkdirTemp("", "redis-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	var processes sync.WaitGroup
	defer processes.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	start := func(name string, command func(context.Context) *exec.Cmd) {
		processes.Go(func() { keep(ctx, out, name, command) })
	}
	redis := os.Getenv("REDIS_ADDR")
	if redis == "" {
		if _, err := exec.LookPath("redis-server"); err != nil {
			return fmt.Errorf("%w; install it, or name a Redis with REDIS_ADDR", err)
		}
		redis = freeAddr()
		start("Redis", func(ctx context.Context) *exec.Cmd { return redisServer(ctx, redis, dir) })
		waitFor(ctx, redis)
	}
	fmt.Fprintf(out, "Open %s\n", baseURL)
	env := environment(provider, baseURL, redis)
	addrs := []string{freeAddr(), freeAddr()}
	for _, addr := range addrs {
		start("instance "+addr, func(ctx context.Context) *exec.Cmd { return startInstance(ctx, env, addr) })
	}
	server := &http.Server{Handler: roundRobin(addrs), ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(listener); ctx.Err() == nil {
		return err
	}
	return nil
}

// roundRobin sends requests to the instances by turns, and on to the next one if one does not take them.
func roundRobin(addrs []string) *httputil.ReverseProxy {
	var turn atomic.Uint64
	dialer := &net.Dialer{}
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		var errs error
		first := turn.Add(1)
		for i := range uint64(len(addrs)) {
			conn, err := dialer.DialContext(ctx, network, addrs[(first+i)%uint64(len(addrs))])
			if err == nil {
				return conn, nil
			}
			errs = errors.Join(errs, err)
		}
		return nil, errs
	}
	return &httputil.ReverseProxy{
		Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, // a connection for each request
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: "instances"})
			r.Out.Host = r.In.Host
		},
	}
}
