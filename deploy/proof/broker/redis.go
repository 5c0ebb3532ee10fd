package broker

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// redisBroker is a client for the part of Redis' protocol (RESP 2,
// https://redis.io/docs/latest/develop/reference/protocol-spec) that streams need. A client library would be one more
// dependency for seven commands.
type redisBroker struct {
	host, user, password string
	tls                  *tls.Config // nil: no TLS

	mu    sync.Mutex
	conn  net.Conn
	reply *bufio.Reader
}

func openRedis(address *url.URL, authority string) (Broker, error) {
	b := &redisBroker{host: address.Host, user: address.User.Username()}
	b.password, _ = address.User.Password()
	if address.Scheme == "rediss" {
		b.tls = &tls.Config{}
		if authority != "" {
			text, err := os.ReadFile(authority)
			if err != nil {
				return nil, err
			}
			b.tls.RootCAs = x509.NewCertPool()
			b.tls.RootCAs.AppendCertsFromPEM(text)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	if _, err := b.do(ctx, "PING"); err != nil {
		return nil, fmt.Errorf("connect to Redis at %s: %w", b.host, err)
	}
	return b, nil
}

func (b *redisBroker) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.disconnect()
}

// topics are the streams whose names match a pattern, in order.
func (b *redisBroker) topics(ctx context.Context, patterns ...string) (names []string, err error) {
	for _, pattern := range patterns {
		reply, err := b.do(ctx, "KEYS", pattern) // each key is a topic
		if err != nil {
			return nil, err
		}
		keys, _ := reply.([]any)
		for _, key := range keys {
			if name := fmt.Sprint(key); name != oldDeadTopic {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names, nil
}

// ofEvents match the topics of events. The first is that of the previous release.
var ofEvents = []string{"events", "events.*"}

const ofRetries, ofDeadLetters = "retry.*", "dead.*"

// places are the last ids that were read, by topic. As text: "events.orders=1-0 events.tickets=2-0".
type places map[string]string

func (p places) String() string {
	parts := make([]string, 0, len(p))
	for _, topic := range slices.Sorted(maps.Keys(p)) {
		parts = append(parts, topic+"="+p[topic])
	}
	return strings.Join(parts, " ")
}

func placesIn(text string) places {
	p := places{}
	for _, part := range strings.Fields(text) {
		topic, place, _ := strings.Cut(part, "=")
		p[topic] = place
	}
	return p
}

// Events merges the topics by their entries' ids, which begin with the server's time.
func (b *redisBroker) Events(ctx context.Context, after string) ([]Message, error) {
	topics, err := b.topics(ctx, ofEvents...)
	if err != nil {
		return nil, err
	}
	read := placesIn(after)
	var all []Message
	for _, topic := range topics {
		some, err := b.after(ctx, topic, read[topic])
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	slices.SortStableFunc(all, func(x, y Message) int { return compareIDs(x.id, y.id) })
	for i := range all {
		read[all[i].Topic] = all[i].id
		all[i].Place = read.String()
	}
	return all, nil
}

// compareIDs orders ids of entries, for example "1526919030474-55", by their time and number.
func compareIDs(x, y string) int {
	number := func(id string) (time, count uint64) {
		before, after, _ := strings.Cut(id, "-")
		time, _ = strconv.ParseUint(before, 10, 64)
		count, _ = strconv.ParseUint(after, 10, 64)
		return time, count
	}
	xTime, xCount := number(x)
	yTime, yCount := number(y)
	return cmp.Or(cmp.Compare(xTime, yTime), cmp.Compare(xCount, yCount))
}

func (b *redisBroker) DeadLetters(ctx context.Context) ([]Message, error) {
	return b.all(ctx, ofDeadLetters)
}

func (b *redisBroker) Retries(ctx context.Context) ([]Message, error) {
	return b.all(ctx, ofRetries)
}

// all reads the topics that match a pattern.
func (b *redisBroker) all(ctx context.Context, pattern string) (all []Message, err error) {
	topics, err := b.topics(ctx, pattern)
	for _, topic := range topics {
		some, err := b.after(ctx, topic, "")
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, err
}

// after reads the entries of a stream after a place.
func (b *redisBroker) after(ctx context.Context, stream, place string) (all []Message, err error) {
	const most = 1000
	for {
		from := "-"
		if place != "" {
			from = "(" + place
		}
		reply, err := b.do(ctx, "XRANGE", stream, from, "+", "COUNT", strconv.Itoa(most))
		if err != nil {
			return all, err
		}
		entries, _ := reply.([]any)
		for _, entry := range entries {
			parts, _ := entry.([]any)
			if len(parts) != 2 {
				return all, fmt.Errorf("%v is not an entry of a stream", entry)
			}
			place = fmt.Sprint(parts[0])
			all = append(all, Message{Topic: stream, Place: place, Data: []byte(fields(parts[1])["data"]), id: place})
		}
		if len(entries) < most {
			return all, nil
		}
	}
}

func (b *redisBroker) State(ctx context.Context) (state State, err error) {
	topics, err := b.topics(ctx, ofEvents...)
	if err != nil {
		return state, err
	}
	state.Complete = true
	last := places{}
	for _, topic := range topics {
		reply, err := b.do(ctx, "XINFO", "STREAM", topic)
		if err != nil {
			return state, err
		}
		info := fields(reply)
		if id := info["last-generated-id"]; id != "0-0" {
			last[topic] = id
		}
		length, _ := strconv.ParseUint(info["length"], 10, 64)
		state.Messages += length
		state.Complete = state.Complete && info["entries-added"] == info["length"]
	}
	state.Last = last.String()
	retries, err := b.topics(ctx, ofRetries)
	if err != nil {
		return state, err
	}
	for _, topic := range append(topics, retries...) {
		waiting, delivered, err := b.groups(ctx, topic)
		if err != nil {
			return state, err
		}
		state.Waiting += waiting
		state.Delivered += delivered
	}
	dead, err := b.topics(ctx, ofDeadLetters)
	if err != nil {
		return state, err
	}
	for _, topic := range dead {
		reply, err := b.do(ctx, "XLEN", topic)
		if err != nil {
			return state, err
		}
		length, _ := reply.(int64)
		state.Dead += uint64(length)
	}
	return state, nil
}

// groups sums over all consumer groups of a topic the entries that they have not read or not acknowledged, and those that they
// have read so far.
func (b *redisBroker) groups(ctx context.Context, topic string) (waiting, delivered uint64, err error) {
	reply, err := b.do(ctx, "XINFO", "GROUPS", topic)
	if err != nil {
		return 0, 0, err
	}
	groups, _ := reply.([]any)
	for _, group := range groups {
		info := fields(group)
		pending, _ := strconv.ParseUint(info["pending"], 10, 64)
		// Redis does not count the unread entries (its "lag") after an entry was removed.
		unread, err := b.after(ctx, topic, info["last-delivered-id"])
		if err != nil {
			return 0, 0, err
		}
		read, _ := strconv.ParseUint(info["entries-read"], 10, 64)
		waiting, delivered = waiting+pending+uint64(len(unread)), delivered+read
	}
	return waiting, delivered, nil
}

func (b *redisBroker) Publish(ctx context.Context, topic string, event []byte) error {
	_, err := b.do(ctx, "XADD", topic, "*", "data", string(event))
	return err
}

func (b *redisBroker) Remove(ctx context.Context, event Message) error {
	_, err := b.do(ctx, "XDEL", event.Topic, event.id)
	return err
}

// fields reads a reply of names and values.
func fields(reply any) map[string]string {
	all := map[string]string{}
	pairs, _ := reply.([]any)
	for i := 0; i+1 < len(pairs); i += 2 {
		all[fmt.Sprint(pairs[i])] = fmt.Sprint(pairs[i+1])
	}
	return all
}

// redisError is an error reply of Redis.
type redisError string

func (e redisError) Error() string { return string(e) }

// do sends one command and returns its reply: a string, an int64, a []any, or nil.
func (b *redisBroker) do(ctx context.Context, command ...string) (any, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if b.conn != nil {
		reply, err := b.send(ctx, command...)
		if b.conn != nil {
			return reply, err
		}
		// The server has ended since the connection was made.
	}
	if err := b.dial(ctx); err != nil {
		return nil, err
	}
	return b.send(ctx, command...)
}

func (b *redisBroker) dial(ctx context.Context) (err error) {
	dialer := &net.Dialer{}
	if b.tls != nil {
		b.conn, err = (&tls.Dialer{NetDialer: dialer, Config: b.tls}).DialContext(ctx, "tcp", b.host)
	} else {
		b.conn, err = dialer.DialContext(ctx, "tcp", b.host)
	}
	if err != nil {
		b.conn = nil
		return err
	}
	b.reply = bufio.NewReader(b.conn)
	if b.password == "" {
		return nil
	}
	if _, err = b.send(ctx, "AUTH", b.user, b.password); err != nil {
		b.disconnect()
	}
	return err
}

// disconnect closes the connection; the next command connects again.
func (b *redisBroker) disconnect() {
	if b.conn != nil {
		_ = b.conn.Close()
		b.conn = nil
	}
}

func (b *redisBroker) send(ctx context.Context, command ...string) (any, error) {
	deadline, _ := ctx.Deadline()
	var text strings.Builder
	fmt.Fprintf(&text, "*%d\r\n", len(command))
	for _, word := range command {
		fmt.Fprintf(&text, "$%d\r\n%s\r\n", len(word), word)
	}
	err := b.conn.SetDeadline(deadline)
	if err == nil {
		_, err = io.WriteString(b.conn, text.String())
	}
	var reply any
	if err == nil {
		reply, err = b.read()
	}
	var refused redisError
	if err != nil && !errors.As(err, &refused) {
		b.disconnect()
	}
	return reply, err
}

func (b *redisBroker) read() (any, error) {
	line, err := b.reply.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return nil, errors.New("an empty reply")
	}
	kind, rest := line[0], line[1:]
	switch kind {
	case '+':
		return rest, nil
	case '-':
		return nil, redisError(rest)
	}
	number, err := strconv.ParseInt(rest, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("the reply %q: %w", line, err)
	}
	switch {
	case kind == ':':
		return number, nil
	case kind == '$' && number < 0, kind == '*' && number < 0:
		return nil, nil
	case kind == '$':
		text := make([]byte, number+2)
		_, err := io.ReadFull(b.reply, text)
		return string(text[:number]), err
	case kind == '*':
		var all []any
		for range number {
			one, err := b.read()
			var refused redisError
			if err != nil && !errors.As(err, &refused) {
				return nil, err
			}
			all = append(all, one)
		}
		return all, nil
	}
	return nil, fmt.Errorf("the reply %q is of an unknown kind", line)
}
