package main

import (
	"context"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// A FileStore keeps each session in a file of a directory, for one process alone: the lock is in its memory. What is in
// the files is sealed. A session that has expired is treated as absent, but its file stays until something tidies up.
// Files survive a crash of the process; whether the last change survives a power failure is up to the file system.
type FileStore struct {
	Dir string
	mu  sync.Mutex
}

type file struct {
	Version int64 // 0: there is none
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

// Set stores data if old is the version that is there, 0 for none. It has no use for tags, as it is no SessionIndex.
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
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.Remove(s.path(key)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// path has another form of key because some file systems take a and A for the same.
func (s *FileStore) path(key string) string {
	return filepath.Join(s.Dir, hex.EncodeToString([]byte(key)))
}

// read returns the file at key, or an empty one.
func (s *FileStore) read(ctx context.Context, key string) (f file, err error) {
	if err := ctx.Err(); err != nil {
		return file{}, err
	}
	opened, err := os.Open(s.path(key))
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

// write replaces the file at key as a whole, so that a crash never leaves half of one.
func (s *FileStore) write(key string, f file) error {
	temp, err := os.CreateTemp(s.Dir, "new-*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	if err := errors.Join(gob.NewEncoder(temp).Encode(f), temp.Sync(), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), s.path(key))
}
