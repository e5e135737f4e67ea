package main

import (
	"context"
	"encoding/gob"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// A FileStore keeps each session in a file of a directory, for one process: the lock is in its memory. Names are safe, since
// keys have letters, digits, "-" and "_" alone, and what is in the files is sealed.
type FileStore struct {
	Dir string
	mu  sync.Mutex
}

// A file is gone when it has expired, although it is still there.
type file struct {
	Version int64
	Expires time.Time
	Data    []byte
}

// Get returns what is stored under key, and its version.
func (s *FileStore) Get(ctx context.Context, key string) (data []byte, version int64, ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.read(ctx, key)
	return f.Data, f.Version, f.Version != 0, err
}

// Set stores data if old is the version that is there, 0 for none.
func (s *FileStore) Set(
	ctx context.Context, key string, data []byte, expires time.Time, old int64, _ []string,
) (version int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.read(ctx, key)
	if err != nil || f.Version != old {
		return 0, err
	}
	f = file{Version: 1 + rand.Int64N(1<<62), Expires: expires, Data: data} // so many that none comes twice
	return f.Version, s.write(key, f)
}

// Delete removes key.
func (s *FileStore) Delete(ctx context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.Remove(filepath.Join(s.Dir, key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return ctx.Err()
}

// read returns the file at key, or an empty one.
func (s *FileStore) read(ctx context.Context, key string) (f file, err error) {
	if err := ctx.Err(); err != nil {
		return file{}, err
	}
	opened, err := os.Open(filepath.Join(s.Dir, key))
	if errors.Is(err, fs.ErrNotExist) {
		return file{}, nil
	}
	if err != nil {
		return file{}, err
	}
	defer opened.Close()
	if err := gob.NewDecoder(opened).Decode(&f); err != nil || !time.Now().Before(f.Expires) {
		return file{}, err
	}
	return f, nil
}

// write replaces the file at key as a whole, so that nobody ever reads half of one.
func (s *FileStore) write(key string, f file) error {
	temp, err := os.CreateTemp(s.Dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	if err := errors.Join(gob.NewEncoder(temp).Encode(f), temp.Sync(), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), filepath.Join(s.Dir, key))
}
