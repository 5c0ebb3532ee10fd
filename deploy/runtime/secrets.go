package main

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/dapr/components-contrib/secretstores"
	"github.com/dapr/components-contrib/secretstores/local/file"
	"github.com/dapr/kit/logger"
)

// secretFile is secretstores.local.file, under the same name and with the same settings. Dapr's own reads its file once; this one
// reads it again when it has changed, so that a key can be changed beside a running sidecar (make rotate-keys).
type secretFile struct {
	log logger.Logger

	mu       sync.Mutex
	metadata secretstores.Metadata
	read     version // of the file that current holds
	current  secretstores.SecretStore
}

// version changes when a file's content does.
type version struct {
	changed time.Time
	size    int64
}

func newSecretFile(log logger.Logger) secretstores.SecretStore {
	return &secretFile{log: log, current: file.NewLocalSecretStore(log)}
}

func (s *secretFile) Init(ctx context.Context, metadata secretstores.Metadata) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.metadata, s.read = metadata, s.version()
	return s.current.Init(ctx, metadata)
}

// version returns the zero version if the file cannot be read.
func (s *secretFile) version() version {
	path, _ := s.metadata.GetProperty("secretsFile")
	found, err := os.Stat(path)
	if err != nil {
		return version{}
	}
	return version{found.ModTime(), found.Size()}
}

// latest returns the store of the file as it is. A file that cannot be read, or only in part, changes nothing until it can.
func (s *secretFile) latest(ctx context.Context) secretstores.SecretStore {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.version(); now != s.read {
		next := file.NewLocalSecretStore(s.log)
		if err := next.Init(ctx, s.metadata); err != nil {
			s.log.Warnf("The file of secrets has changed and cannot be read; the earlier secrets stay in use: %v", err)
			return s.current
		}
		s.current, s.read = next, now
	}
	return s.current
}

func (s *secretFile) GetSecret(ctx context.Context, req secretstores.GetSecretRequest) (secretstores.GetSecretResponse, error) {
	return s.latest(ctx).GetSecret(ctx, req)
}

func (s *secretFile) BulkGetSecret(ctx context.Context, req secretstores.BulkGetSecretRequest) (secretstores.BulkGetSecretResponse, error) {
	return s.latest(ctx).BulkGetSecret(ctx, req)
}

func (s *secretFile) Features() []secretstores.Feature {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current.Features()
}

func (s *secretFile) Close() error { return nil }
