package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/stores/redisstore"
)

// instance serves the application on addr. What all instances have to agree on is in the environment: provider, BaseURL,
// secrets and the address of Redis.
func instance(addr string) error {
	store, err := redisstore.New(redis.NewClient(&redis.Options{Addr: os.Getenv("REDIS_ADDR")}), redisstore.Options{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := store.Check(ctx); err != nil {
		log.Print(err) // such as a Redis that may forget sessions, or that is still starting
	}
	options, err := oidcauth.OptionsFromEnv()
	if err != nil {
		return err
	}
	options.Store = store
	client, err := oidcauth.New(options)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, `This is instance %s. <a href="/account">Who am I?</a>`, addr)
	})
	mux.Handle("GET /account", client.RequireAuth(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, _ := oidcauth.SessionFromContext(r.Context())
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, `Instance %s says: you are %s. <a href="%s">Sign out</a>`, addr, s.Subject, client.LogoutURL(""))
	})))
	return http.ListenAndServe(addr, client.Wrap(mux))
}
