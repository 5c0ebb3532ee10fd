package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"

	scheduler "github.com/dapr/dapr/cmd/scheduler/app"
	"github.com/dapr/dapr/cmd/scheduler/options"
	"github.com/dapr/dapr/pkg/modes"
	"github.com/dapr/dapr/pkg/security"
	"github.com/dapr/dapr/pkg/security/consts"
)

// runScheduler is Dapr's scheduler with two differences, if it is the only member of its cluster.
//
// It starts the etcd that holds the jobs by itself, on sockets in its data folder. Dapr's listens on two TCP ports without
// TLS or password, so any process on the machine could write jobs there, and every job makes a service do something.
//
// After a crash it is back at once and not after twenty seconds. A scheduler holds its leadership by a lease of twenty
// seconds in its etcd. The lease of one that is killed remains, and the next one waits until it ends, and with it
// every sidecar. If there is only one scheduler, it need not wait: the one that held the lease had the same data on its disk,
// and only one process can. So a file on the disk marks a scheduler that runs; if it is there at the start, the last scheduler
// crashed, and its leadership is ended.
func runScheduler() error {
	opts, err := options.New(os.Args[1:])
	if err != nil {
		return fmt.Errorf("parse flags: %w", err)
	}
	alone := opts.EtcdEmbed && opts.Mode == string(modes.StandaloneMode) && len(opts.EtcdInitialCluster) == 1
	if !alone {
		scheduler.Run()
		return nil
	}
	etcd, err := startEtcd(opts)
	if err != nil {
		return fmt.Errorf("start its etcd: %w", err)
	}
	go func() {
		if err, open := <-etcd.Err(); open {
			fmt.Fprintln(os.Stderr, "scheduler: its etcd ended:", err)
			os.Exit(1)
		}
	}()
	go defragment(etcd)
	mark := filepath.Join(opts.EtcdDataDir, "running")
	if _, err := os.Stat(mark); err == nil {
		if err := endLeadership(etcd); err != nil {
			// It only takes longer without.
			fmt.Fprintln(os.Stderr, "scheduler: end the leadership of a scheduler that crashed:", err)
		}
	}
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		return err
	}
	os.Args = append(os.Args, "--etcd-embed=false", "--etcd-client-endpoints=unix:"+clientSocket,
		"--identity-directory-write="+filepath.Join(opts.EtcdDataDir, "identity"))
	scheduler.Run() // an end that was not in order does not return
	etcd.Close()
	return os.Remove(mark)
}

// The sockets are in a folder that only this process's user may enter. They have short names, and the process works in their
// folder, for the path of a socket is at most 107 bytes.
const (
	socketFolder = "sockets"
	clientSocket = "clients"
	peerSocket   = "peers"
)

// startEtcd starts etcd with the settings that Dapr's scheduler gives to its own, and waits until it is ready. It makes all
// paths of the options absolute, and the process works in the folder of the sockets from then on.
func startEtcd(opts *options.Options) (*embed.Etcd, error) {
	interval, err := time.ParseDuration(opts.EtcdBackendBatchInterval)
	if err != nil {
		return nil, fmt.Errorf("the backend's batch interval: %w", err)
	}
	_, peer, _ := strings.Cut(opts.EtcdInitialCluster[0], "=")
	peerURL, err := url.Parse(peer)
	if err != nil {
		return nil, err
	}
	if opts.EtcdDataDir, err = filepath.Abs(opts.EtcdDataDir); err != nil {
		return nil, err
	}
	sockets := filepath.Join(opts.EtcdDataDir, socketFolder)
	if err := os.MkdirAll(sockets, 0o700); err != nil {
		return nil, err
	}
	if opts.TrustAnchorsFile != nil {
		path, err := filepath.Abs(*opts.TrustAnchorsFile)
		if err != nil {
			return nil, err
		}
		os.Args = append(os.Args, "--trust-anchors-file="+path)
	}
	if path := os.Getenv(consts.SentryTokenFileEnvVar); path != "" {
		if path, err = filepath.Abs(path); err == nil {
			err = os.Setenv(consts.SentryTokenFileEnvVar, path)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := os.Chdir(sockets); err != nil {
		return nil, err
	}

	config := embed.NewConfig()
	config.Name = opts.ID
	config.Dir = filepath.Join(opts.EtcdDataDir, security.CurrentNamespace()+"-"+opts.ID, "dapr-0.1") // as the scheduler does
	config.InitialCluster = opts.EtcdInitialCluster[0]
	config.AdvertisePeerUrls = []url.URL{*peerURL} // as it is in the data, and nobody asks for it
	config.ListenPeerUrls = []url.URL{{Scheme: "unix", Host: peerSocket}}
	config.ListenClientUrls = []url.URL{{Scheme: "unix", Host: clientSocket}}
	config.InitialElectionTickAdvance = opts.EtcdInitialElectionTickAdvance
	config.MaxRequestBytes = math.MaxInt32
	config.ExperimentalWarningApplyDuration = 5 * time.Second
	config.QuotaBackendBytes = opts.EtcdSpaceQuota
	config.AutoCompactionMode, config.AutoCompactionRetention = opts.EtcdCompactionMode, opts.EtcdCompactionRetention
	config.MaxSnapFiles, config.MaxWalFiles = opts.EtcdMaxSnapshots, opts.EtcdMaxWALs
	config.SnapshotCount = opts.EtcdSnapshotCount
	config.BackendBatchLimit, config.BackendBatchInterval = opts.EtcdBackendBatchLimit, interval
	config.MaxTxnOps = opts.EtcdMaxTxnOps
	config.ExperimentalBootstrapDefragThresholdMegabytes = opts.EtcdDefragThresholdMB
	config.Metrics = opts.EtcdMetrics
	config.LogLevel = "error"
	if err := clearUnfinished(opts, config.Dir); err != nil {
		return nil, err
	}

	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return nil, err
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return etcd, nil
	case err := <-etcd.Err():
		return nil, err
	case <-time.After(time.Minute):
		etcd.Close()
		return nil, errors.New("it is not ready after a minute")
	}
}

// clearUnfinished removes data of a first start that Dapr's scheduler has not finished, as that does: it has a mark of its own.
func clearUnfinished(opts *options.Options, folder string) error {
	mark := filepath.Join(opts.EtcdDataDir, "dapr-scheduler-existing-cluster")
	if _, err := os.Stat(mark); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(os.RemoveAll(folder), os.MkdirAll(folder, 0o700), os.WriteFile(mark, nil, 0o600))
}

// endLeadership removes the keys of the leader.
func endLeadership(etcd *embed.Etcd) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	client := v3client.New(etcd.Server)
	defer func() { _ = client.Close() }()
	_, err := client.Delete(ctx, "dapr/leadership/", clientv3.WithPrefix())
	return err
}

// defragment gives disk space back every ten minutes if half of it is not in use, as Dapr's scheduler does with its own etcd.
func defragment(etcd *embed.Etcd) {
	for range time.Tick(10 * time.Minute) {
		backend := etcd.Server.Backend()
		if backend.Size() < 2*backend.SizeInUse() {
			continue
		}
		if err := backend.Defrag(); err != nil {
			fmt.Fprintln(os.Stderr, "scheduler: defragment its etcd:", err)
		}
	}
}
