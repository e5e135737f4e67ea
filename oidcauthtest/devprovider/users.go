package devprovider

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// A User is somebody who can sign in. Email is required; an empty Subject is a random one, an empty Name is the Email.
type User struct {
	Subject, Name, Email string
	// Claims go into the ID token and the UserInfo response beside sub, name, email, email_verified and picture.
	Claims map[string]any
}

func demoUsers() []User {
	return []User{
		{Subject: "ada", Name: "Ada Lovelace", Email: "ada@example.com"},
		{Subject: "grace", Name: "Grace Hopper", Email: "grace@example.com"},
		{Subject: "alan", Name: "Alan Turing", Email: "alan@example.com"},
	}
}

// claims are what an application is told about u.
func (u User) claims(issuer string) map[string]any {
	claims := map[string]any{
		"name": u.Name, "email": u.Email, "email_verified": true, "picture": issuer + avatarPath(u),
	}
	maps.Copy(claims, u.Claims)
	return claims
}

// A signIn is one user in one browser: what makes the second application's login silent.
type signIn struct {
	user User
	at   time.Time
}

// directory is who exists and who is signed in. All of it is gone when the process ends.
type directory struct {
	mu      sync.Mutex
	users   []User
	signIns map[string]signIn // by the cookie's value
}

func newDirectory(users []User) (*directory, error) {
	d := &directory{signIns: map[string]signIn{}}
	for _, u := range users {
		if _, err := d.add(u); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// add makes u known. An e-mail address belongs to one user.
func (d *directory) add(u User) (User, error) {
	u.Email = strings.ToLower(strings.TrimSpace(u.Email))
	u.Name = cmp.Or(strings.TrimSpace(u.Name), u.Email)
	u.Subject = cmp.Or(u.Subject, rand.Text())
	if u.Email == "" {
		return User{}, fmt.Errorf("user %q has no Email", u.Name)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, known := range d.users {
		if known.Email == u.Email || known.Subject == u.Subject {
			return User{}, fmt.Errorf("user %q is there already", u.Email)
		}
	}
	u.Claims = maps.Clone(u.Claims)
	d.users = append(d.users, u)
	return u, nil
}

func (d *directory) all() []User {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.users)
}

func (d *directory) bySubject(subject string) (User, bool) {
	users := d.all()
	i := slices.IndexFunc(users, func(u User) bool { return u.Subject == subject })
	if i < 0 {
		return User{}, false
	}
	return users[i], true
}

// begin signs u in and returns the value for the cookie.
func (d *directory) begin(u User) (id string, s signIn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	id, s = rand.Text(), signIn{user: u, at: time.Now()}
	d.signIns[id] = s
	return id, s
}

func (d *directory) find(id string) (signIn, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, ok := d.signIns[id]
	return s, ok
}

func (d *directory) end(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.signIns, id)
}
