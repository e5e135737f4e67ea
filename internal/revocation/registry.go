package revocation

import (
	"context"
	"errors"
	"sync"
	"time"
)

// A Store is what the root package calls SessionStore, as far as it is used here.
type Store interface {
	Get(ctx context.Context, key string) (data []byte, version int64, ok bool, err error)
	Set(ctx context.Context, key string, data []byte, expires time.Time, old int64, tags []string) (int64, error)
}

// maxConflicts is how often a mark is written in vain: of those who try at the same time one succeeds.
const maxConflicts = 1000

// ErrUnreadable says that there is a mark, and that nobody knows what it says. [Registry.Add] replaces it.
var ErrUnreadable = errors.New("a mark cannot be read: it is damaged, or was made with a secret that is not among Secrets")

var (
	errConflict = errors.New("others change the mark each time first")
	errNoName   = errors.New("no key to name a mark with")
)

// A Registry keeps marks in a store. It is safe for concurrent use. All fields are required.
type Registry struct {
	Store Store
	// Names are the names of what is noted about value, one for each secret (S10).
	Names func(kind, value string) []string
	// Seal and Open keep the marks from who can read the store, each under its name, with the secret of that name.
	Seal func(secret int, name string, plain []byte) ([]byte, error)
	Open func(name string, data []byte) (plain []byte, ok bool)
	// Life is how long a mark is kept: as long as a session that it ends can live.
	Life time.Duration
}

// Read returns what is noted about value, under whichever secret. What cannot be read is an error, and no mark.
func (r *Registry) Read(ctx context.Context, kind, value string) (Mark, error) {
	names := r.Names(kind, value)
	marks, errs := make([]Mark, len(names)), make([]error, len(names))
	read := func(i int) { marks[i], _, errs[i] = r.get(ctx, names[i]) }
	var group sync.WaitGroup
	for i := 1; i < len(names); i++ {
		group.Go(func() { read(i) })
	}
	if len(names) == 0 {
		return Mark{}, errNoName
	}
	read(0)
	group.Wait()
	joined := marks[0]
	for _, m := range marks[1:] {
		joined = joined.Join(m)
	}
	return joined, errors.Join(errs...)
}

// Add notes m about value, under every secret, beside what is noted there.
func (r *Registry) Add(ctx context.Context, kind, value string, m Mark) error {
	names := r.Names(kind, value)
	if len(names) == 0 {
		return errNoName
	}
	for i, name := range names {
		if err := r.add(ctx, i, name, m); err != nil {
			return err
		}
	}
	return nil
}

func (r *Registry) add(ctx context.Context, secret int, name string, m Mark) error {
	for range maxConflicts {
		old, version, err := r.get(ctx, name)
		if errors.Is(err, ErrUnreadable) {
			err = nil // replaced: nobody can read it
		}
		if err != nil {
			return err
		}
		joined := old.Join(m)
		if joined.Until == nil {
			joined.Until = map[string]int64{}
		}
		data, err := r.Seal(secret, name, joined.encode())
		if err != nil {
			return err
		}
		version, err = r.Store.Set(ctx, name, data, time.Now().Add(r.Life), version, nil)
		if err != nil || version != 0 {
			return err
		}
	}
	return errConflict
}

func (r *Registry) get(ctx context.Context, name string) (m Mark, version int64, err error) {
	data, version, ok, err := r.Store.Get(ctx, name)
	if err != nil || !ok {
		return Mark{}, 0, err
	}
	if plain, ok := r.Open(name, data); ok {
		if m, ok := decode(plain); ok {
			return m, version, nil
		}
	}
	return Mark{}, version, ErrUnreadable
}
