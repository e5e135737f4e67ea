// Quickstart is a small web application with sign-in. Started without any configuration it also starts a provider to
// sign in at:
//
//	go run ./examples/quickstart
//
// With -store memory the sessions are on the server instead of in cookies, so that users can see and end their own.
//
// With OIDC_ISSUER, OIDC_CLIENT_ID, OIDC_CLIENT_SECRET, APP_BASE_URL and SESSION_SECRET in the environment (or Auth0's
// names, see oidcauth.OptionsFromEnv) it uses that provider instead.
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
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest/devprovider"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:3000", "`address` to listen on")
	store := flag.String("store", inCookies, "where sessions are: cookie, memory, or revocations (in cookies, and in "+
		"memory which of them were ended)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, *store, os.Stdout); err != nil {
		log.Fatal("quickstart: ", err)
	}
}

// run serves the application on addr until ctx ends.
func run(ctx context.Context, addr, store string, out io.Writer) error {
	fromEnv := configured(os.Environ())
	listener, err := listen(addr, !fromEnv)
	if err != nil {
		return err
	}
	defer listener.Close()

	var options oidcauth.Options
	if fromEnv {
		options, err = oidcauth.OptionsFromEnv()
	} else {
		// A provider where anybody signs in as anybody: only for trying things out, and only on this machine.
		var provider *devprovider.Provider
		provider, err = devprovider.Listen(devprovider.Options{BaseURL: "http://" + listener.Addr().String()})
		if err == nil {
			defer provider.Close()
			options = provider.Options()
		}
	}
	if err != nil {
		return err
	}
	if err := keepSessions(store, &options); err != nil {
		return err
	}
	client, err := oidcauth.New(options)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, environmentHelp)
	}

	fmt.Fprintf(out, "Open %s\n", options.BaseURL)
	return serve(ctx, listener, newApp(client, store))
}

const environmentHelp = "Set OIDC_ISSUER, OIDC_CLIENT_ID, OIDC_CLIENT_SECRET, APP_BASE_URL and SESSION_SECRET, " +
	"or none of them to use the built-in provider."

// inCookies is the -store that a session can only be ended from in the browser that has it.
const inCookies = "cookie"

// keepSessions says where the sessions are. What is in memory is lost with the process and seen by no other: for more
// than trying it out there are stores/redisstore and stores/sqlstore.
func keepSessions(store string, options *oidcauth.Options) error {
	switch store {
	case inCookies:
	case "memory":
		options.Store = oidcauth.NewMemoryStore(0)
	case "revocations":
		options.RevocationStore = oidcauth.NewMemoryStore(0)
	default:
		return fmt.Errorf("-store %q: choose cookie, memory or revocations", store)
	}
	return nil
}

// configured reports whether anything in the environment is meant for sign-in. Then nothing falls back to the built-in
// provider: one mistyped name must not open the application to everybody.
func configured(environ []string) bool {
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "OIDC_") || strings.HasPrefix(name, "AUTH0_") ||
			name == "APP_BASE_URL" || name == "SESSION_SECRET" {
			return true
		}
	}
	return false
}

// listen opens addr on this machine. If it is taken, and anyPort allows it, another port will do.
func listen(addr string, anyPort bool) (net.Listener, error) {
	if host, _, err := net.SplitHostPort(addr); err != nil || host != "127.0.0.1" {
		return nil, fmt.Errorf("-addr %q: only 127.0.0.1 and a port, as in 127.0.0.1:3000", addr)
	}
	listener, err := net.Listen("tcp4", addr)
	if err != nil && anyPort {
		log.Printf("%v; using another port", err)
		listener, err = net.Listen("tcp4", "127.0.0.1:0")
	}
	return listener, err
}

// serve answers requests until ctx ends, then lets those under way finish.
func serve(ctx context.Context, listener net.Listener, a *app) error {
	server := &http.Server{Handler: a.routes(), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return errors.Join(server.Shutdown(ctx), a.client.Close(ctx))
}
