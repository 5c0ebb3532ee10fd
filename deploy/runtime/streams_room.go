package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The streams have a size (streams.go, --max-bytes), and a full one refuses what is published: an event that a service has
// yet to handle must not be lost to make room for another. So that handled events do not fill a stream, the server itself
// removes the oldest of them as soon as a stream is fuller than keepBelow. Until then they stay as long as the stream keeps
// events, for later subscribers and for inspection.
const (
	keepBelow = 0.5 // of a stream's size
	roomEvery = 10 * time.Second
)

// metricsVariable names the address on which the server serves how full its streams are, for example "0.0.0.0:7777"; empty is none.
const metricsVariable = "NATS_METRICS_ADDRESS"

// keepRoom runs beside a server until the context ends: it makes room in the streams, and serves their metrics. All servers
// of a cluster do it; removing the same events twice is no more than removing them once.
func keepRoom(ctx context.Context, s *server.Server, opts *server.Options) error {
	if !opts.JetStream {
		return nil
	}
	figures := &streamFigures{}
	if address := os.Getenv(metricsVariable); address != "" {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("%s: %w", metricsVariable, err)
		}
		web := &http.Server{Handler: figures, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second}
		go func() { _ = web.Serve(listener) }()
		context.AfterFunc(ctx, func() { _ = web.Close() })
	}
	go func() {
		for {
			if err := makeRoom(ctx, s, opts, figures); err != nil && ctx.Err() == nil {
				s.Noticef("streams: %v", err) // a cluster that has no leader yet, for example
			}
			select {
			case <-time.After(roomEvery):
			case <-ctx.Done():
				return
			}
		}
	}()
	return nil
}

// account is a user who may do everything: the first of the configuration without permissions, or the one token.
func account(opts *server.Options) []nats.Option {
	if opts.Authorization != "" {
		return []nats.Option{nats.Token(opts.Authorization)}
	}
	for _, user := range opts.Users {
		if user.Permissions == nil {
			return []nats.Option{nats.UserInfo(user.Username, user.Password)}
		}
	}
	return nil
}

func makeRoom(ctx context.Context, s *server.Server, opts *server.Options, figures *streamFigures) error {
	ctx, cancel := context.WithTimeout(ctx, roomEvery)
	defer cancel()
	if !s.ReadyForConnections(5 * time.Second) {
		return errors.New("the server takes no connections yet")
	}
	conn, err := nats.Connect("", append(account(opts), nats.Name("keep-room"), nats.InProcessServer(s), nats.NoReconnect())...)
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	var all []streamFigure
	for _, config := range streams(1, 0) {
		figure, err := makeRoomIn(ctx, js, config.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("stream %s: %w", config.Name, err)
		}
		all = append(all, figure)
	}
	figures.set(all)
	return nil
}

// makeRoomIn removes the oldest events of a stream that is fuller than keepBelow, down to half of that, but none that
// a durable consumer has yet to acknowledge. If nobody subscribes at all, nothing is removed.
func makeRoomIn(ctx context.Context, js jetstream.JetStream, name string) (streamFigure, error) {
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return streamFigure{}, err
	}
	// Read before the consumers: newer events are not counted.
	info := stream.CachedInfo()
	figure := streamFigure{name: name, bytes: info.State.Bytes, most: info.Config.MaxBytes, pending: map[string]uint64{}}
	first, handled, subscribed := info.State.FirstSeq, info.State.LastSeq, false
	consumers := stream.ListConsumers(ctx)
	for consumer := range consumers.Info() {
		if consumer.Config.Durable == "" {
			continue // an inspection
		}
		subscribed = true
		figure.pending[consumer.Name] = consumer.NumPending + uint64(consumer.NumAckPending)
		if figure.pending[consumer.Name] > 0 {
			handled = min(handled, consumer.AckFloor.Stream)
		}
	}
	if err := consumers.Err(); err != nil {
		return figure, err
	}
	if figure.most <= 0 || float64(figure.bytes) < keepBelow*float64(figure.most) || !subscribed || info.State.Msgs == 0 {
		return figure, nil
	}
	// Events differ in size, so this is about as many as are too much.
	tooMuch := 1 - keepBelow/2*float64(figure.most)/float64(figure.bytes)
	upTo := min(handled+1, first+uint64(tooMuch*float64(info.State.LastSeq-first+1)))
	if upTo <= first {
		return figure, nil
	}
	return figure, stream.Purge(ctx, jetstream.WithPurgeSequence(upTo)) // keeps upTo itself
}

// streamFigures are the metrics of the streams, in Prometheus' text format.
type streamFigures struct {
	sync.Mutex
	all []streamFigure
}

type streamFigure struct {
	name    string
	bytes   uint64
	most    int64             // 0 or less: no limit
	pending map[string]uint64 // by durable consumer: events that it has yet to acknowledge
}

func (f *streamFigures) set(all []streamFigure) {
	f.Lock()
	defer f.Unlock()
	f.all = all
}

func (f *streamFigures) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/metrics" {
		http.NotFound(w, r)
		return
	}
	f.Lock()
	all := f.all
	f.Unlock()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	fmt.Fprint(w, "# HELP boxoffice_stream_bytes Size of a stream of NATS.\n# TYPE boxoffice_stream_bytes gauge\n")
	for _, s := range all {
		fmt.Fprintf(w, "boxoffice_stream_bytes{stream=%q} %d\n", s.name, s.bytes)
	}
	fmt.Fprint(w, "# HELP boxoffice_stream_max_bytes The size at which a stream refuses events; 0 is none.\n# TYPE boxoffice_stream_max_bytes gauge\n")
	for _, s := range all {
		fmt.Fprintf(w, "boxoffice_stream_max_bytes{stream=%q} %d\n", s.name, max(0, s.most))
	}
	fmt.Fprint(w, "# HELP boxoffice_stream_pending_events Events of a stream that a consumer has yet to acknowledge.\n# TYPE boxoffice_stream_pending_events gauge\n")
	for _, s := range all {
		for consumer, n := range s.pending {
			fmt.Fprintf(w, "boxoffice_stream_pending_events{stream=%q,consumer=%q} %d\n", s.name, consumer, n)
		}
	}
}
