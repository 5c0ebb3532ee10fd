package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"

	scheduler "github.com/dapr/dapr/cmd/scheduler/app"
	"github.com/dapr/dapr/cmd/scheduler/options"
	"github.com/dapr/dapr/pkg/modes"
	"github.com/dapr/dapr/pkg/security"
)

// runScheduler is Dapr's scheduler, which after a crash is back at once and not after twenty seconds.
//
// A scheduler holds its leadership by a lease of twenty seconds in its etcd. One that is killed leaves the lease
// behind, and the next one waits until it is over, and with it every sidecar. A scheduler that is the only
// member of its cluster need not: the one that held the lease had the same data on its disk, and only one process
// can. So a mark on the disk tells whether the last one ended in order; if not, its leadership is ended for it.
func runScheduler() error {
	opts, err := options.New(os.Args[1:])
	if err != nil {
		return fmt.Errorf("parse flags: %w", err)
	}
	alone := opts.EtcdEmbed && opts.Mode == string(modes.StandaloneMode) && len(opts.EtcdInitialCluster) == 1 && !opts.TLSEnabled
	if !alone {
		scheduler.Run()
		return nil
	}
	mark := filepath.Join(opts.EtcdDataDir, "running")
	if _, err := os.Stat(mark); err == nil {
		if err := endLeadership(opts); err != nil {
			// It would have come back anyway, only later.
			fmt.Fprintln(os.Stderr, "scheduler: end the leadership of a scheduler that crashed:", err)
		}
	}
	if err := errors.Join(os.MkdirAll(opts.EtcdDataDir, 0o700), os.WriteFile(mark, nil, 0o600)); err != nil {
		return err
	}
	scheduler.Run() // an end that was not in order does not return
	return os.Remove(mark)
}

// endLeadership starts the scheduler's etcd for a moment, with no scheduler on it, and removes the keys that say
// who leads.
func endLeadership(opts *options.Options) error {
	_, peer, _ := strings.Cut(opts.EtcdInitialCluster[0], "=")
	peerURL, err := url.Parse(peer)
	if err != nil {
		return err
	}
	config := embed.NewConfig()
	config.Name = opts.ID
	config.Dir = filepath.Join(opts.EtcdDataDir, security.CurrentNamespace()+"-"+opts.ID, "dapr-0.1") // as the scheduler does
	config.InitialCluster = opts.EtcdInitialCluster[0]
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{*peerURL}, []url.URL{*peerURL}
	config.ListenClientUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:" + strconv.FormatUint(opts.EtcdClientPort, 10)}}
	config.InitialElectionTickAdvance = true
	config.LogLevel = "error"
	if _, err := os.Stat(filepath.Join(config.Dir, "member")); errors.Is(err, fs.ErrNotExist) {
		return nil // it crashed before it had any data
	}

	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	defer etcd.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	select {
	case <-etcd.Server.ReadyNotify():
	case err := <-etcd.Err():
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
	client := v3client.New(etcd.Server)
	defer func() { _ = client.Close() }()
	_, err = client.Delete(ctx, "dapr/leadership/", clientv3.WithPrefix())
	return err
}
