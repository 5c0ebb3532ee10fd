package service

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificateAge is how long a certificate is used before its files are checked again.
const certificateAge = 10 * time.Second

// certificate is the certificate of the public port. Its files may be replaced while the process runs.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu       sync.Mutex
	current  *tls.Certificate
	checked  time.Time
	modified [2]time.Time
}

// tlsConfig returns the configuration of the public port, or nil if TLS_CERT_FILE and TLS_KEY_FILE are not set.
func (s *Service) tlsConfig() (*tls.Config, error) {
	c := &certificate{certFile: s.config.TLSCertFile, keyFile: s.config.TLSKeyFile, log: s.Log}
	if c.certFile == "" {
		return nil, nil
	}
	if _, err := c.get(nil); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: c.get}, nil
}

// get returns the certificate of the files. If they cannot be read, it returns the last one.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil && time.Since(c.checked) < certificateAge {
		return c.current, nil
	}
	err := c.read()
	c.checked = time.Now()
	if err != nil && c.current == nil {
		return nil, fmt.Errorf("read TLS_CERT_FILE and TLS_KEY_FILE: %w", err)
	}
	if err != nil {
		c.log.Error("the new certificate cannot be read; the last one is used", "error", err)
	}
	return c.current, nil
}

// read reads the files if they have changed. c.mu is held.
func (c *certificate) read() error {
	var modified [2]time.Time
	for i, name := range []string{c.certFile, c.keyFile} {
		stat, err := os.Stat(name)
		if err != nil {
			return err
		}
		modified[i] = stat.ModTime()
	}
	if c.current != nil && modified == c.modified {
		return nil
	}
	read, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.current, c.modified = &read, modified
	return nil
}
