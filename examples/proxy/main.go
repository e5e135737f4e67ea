// Proxy is a web application whose page calls an API and sees no token: the application passes the page's requests on
// and adds the user's access token. It starts a provider to sign in at, and the API, on this machine:
//
//	go run ./examples/proxy
//
// The API prints what it sees of each request.
package main

import (
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"html/template"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest/devprovider"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:3000", "`address` to listen on, of this machine")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, os.Stdout); err != nil {
		log.Fatal("proxy: ", err)
	}
}

// run serves the application on addr, and the API on another port, until ctx ends.
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
	api, err := startAPI(provider.AccessToken, out)
	if err != nil {
		return err
	}
	defer api.Close()

	options := provider.Options()
	options.Audience = audience
	options.Routes.AccessToken = "-" // no script needs a token
	client, err := oidcauth.New(options)
	if err != nil {
		return err
	}
	h, err := newApp(client, "http://"+api.Addr)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "Open %s\n", baseURL)
	return serve(ctx, listener, h, client)
}

// serve answers requests until ctx ends. Shutdown waits for requests under way, but streams never end by themselves.
func serve(ctx context.Context, listener net.Listener, h http.Handler, client *oidcauth.Client) error {
	base, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return base },
	}
	server.RegisterOnShutdown(end)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return errors.Join(server.Shutdown(ctx), client.Close(ctx))
}

//go:embed home.html app.js style.css
var files embed.FS

var home = template.Must(template.ParseFS(files, "home.html"))

func newApp(client *oidcauth.Client, api string) (http.Handler, error) {
	proxy, err := client.Proxy(oidcauth.ProxyOptions{Prefix: "/api/", Target: api + "/v1/"})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/api/", proxy)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { showHome(w, r, client) })
	mux.Handle("GET /app.js", http.FileServerFS(files))
	mux.Handle("GET /style.css", http.FileServerFS(files))
	return client.Wrap(mux), nil
}

func showHome(w http.ResponseWriter, r *http.Request, client *oidcauth.Client) {
	session, _ := client.GetSession(r) // nil: nobody is signed in
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store") // who is signed in differs from one browser to the next
	h.Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'")
	if err := home.Execute(w, map[string]any{"Client": client, "Session": session}); err != nil {
		log.Print("proxy: ", err)
	}
}
