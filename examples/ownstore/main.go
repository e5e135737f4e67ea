// Ownstore is a web application that keeps its sessions in a store of its own: files in a directory. It starts a
// provider to sign in at on this machine:
//
//	go run ./examples/ownstore
//
// Delete a file, and somebody is signed out.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest/devprovider"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:3000", "`address` to listen on, of this machine")
	dir := flag.String("dir", "", "`directory` of the sessions; default a new one")
	flag.Parse()
	if err := run(*addr, *dir); err != nil {
		log.Fatal("ownstore: ", err)
	}
}

func run(addr, dir string) error {
	listener, err := net.Listen("tcp4", addr)
	if err != nil {
		return fmt.Errorf("%w; choose another port with -addr 127.0.0.1:0", err)
	}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "sessions-*"); err != nil {
			return err
		}
	}
	// A provider where anybody signs in as anybody: only for trying things out, and only on this machine.
	provider, err := devprovider.Listen(devprovider.Options{BaseURL: "http://" + listener.Addr().String()})
	if err != nil {
		return err
	}
	defer provider.Close()
	options := provider.Options()
	options.Store = &FileStore{Dir: dir}
	client, err := oidcauth.New(options)
	if err != nil {
		return err
	}
	fmt.Printf("Open %s\nThe sessions are in %s\n", options.BaseURL, dir)
	server := &http.Server{Handler: routes(client), ReadHeaderTimeout: 10 * time.Second}
	return server.Serve(listener)
}

func routes(client *oidcauth.Client) http.Handler { return client.RequireAuth(http.HandlerFunc(home)) }

func home(w http.ResponseWriter, r *http.Request) {
	s, _ := oidcauth.SessionFromContext(r.Context())
	fmt.Fprintf(w, "signed in as %s since %s\n", s.Subject, s.CreatedAt.Format("15:04:05"))
}
