// Package client calls the box office's public REST API. All programs and tests of the proof share it. It shares no code with the
// services: paths, bodies and errors are written from the documented contract.
//
// A request is a value. api.go has one function for each operation:
//
//	api := client.New(gatewayURL, client.Options{})
//	defer api.Close()
//	response, err := api.As(token).Do(ctx, client.Reserve(ticketID).WithKey(key))
//	order, err := client.Decode[client.Order](response, err)
//
// Do returns a Response for every status, and an error only if there is no whole response: then the request may have been done, and
// can be sent again with the same key. Decode returns a refusal as a *Problem, whose Code is the reason.
//
// Every call has a deadline. Pages follows a list to its end. A validator of the contract belongs into Options.Transport, which sees all
// requests and responses.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"time"
)

// DefaultTimeout is the deadline of one call, if Options do not name one.
const DefaultTimeout = 30 * time.Second

// Options are what a Client may be given. The zero value is usable.
type Options struct {
	// Timeout bounds one call, from the connection to the last byte of the body.
	Timeout time.Duration
	// Transport sends the requests. The default keeps 256 idle connections to a host.
	Transport http.RoundTripper
}

// Client calls the API at one address, as one user or as nobody. It is safe for concurrent use, and it does not change: At and As
// return copies that share its connections.
type Client struct {
	baseURL string
	token   string
	timeout time.Duration
	http    *http.Client
}

// New returns a client of the API at baseURL, for example "http://localhost:8080".
func New(baseURL string, options Options) *Client {
	if options.Timeout == 0 {
		options.Timeout = DefaultTimeout
	}
	if options.Transport == nil {
		options.Transport = &http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: 30 * time.Second}
	}
	return &Client{baseURL: baseURL, timeout: options.Timeout, http: &http.Client{
		Transport:     options.Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// At returns a client of another address.
func (c *Client) At(baseURL string) *Client {
	other := *c
	other.baseURL = baseURL
	return &other
}

// As returns a client whose requests have that token, unless they have an Authorization header of their own.
func (c *Client) As(token string) *Client {
	other := *c
	other.token = token
	return &other
}

// Close closes the connections that no request uses.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Request is a request of the API.
type Request struct {
	Method string
	// Path is the path with its query, or a whole URL.
	Path string
	// Body is nil, a string or bytes that are sent as they are, or a value that is sent as JSON.
	Body   any
	Header http.Header
}

// At returns the request to another address than the client's.
func (r Request) At(baseURL string) Request {
	r.Path = baseURL + r.Path
	return r
}

// With returns the request with one more header. An empty value removes the header, also one that the client would set.
func (r Request) With(name, value string) Request {
	r.Header = r.Header.Clone()
	if r.Header == nil {
		r.Header = http.Header{}
	}
	r.Header.Set(name, value)
	return r
}

// WithKey returns the request with an Idempotency-Key. Without a key it returns the request as it is.
func (r Request) WithKey(key string) Request {
	if key == "" {
		return r
	}
	return r.With("Idempotency-Key", key)
}

// WithCookie returns the request with a cookie in the place of all others.
func (r Request) WithCookie(name, value string) Request {
	return r.With("Cookie", (&http.Cookie{Name: name, Value: value}).String())
}

// WithQuery returns the request with one more parameter in its query.
func (r Request) WithQuery(name string, value any) Request {
	separator := "?"
	if strings.Contains(r.Path, "?") {
		separator = "&"
	}
	r.Path += fmt.Sprintf("%s%s=%v", separator, name, value)
	return r
}

// body returns the body as it is sent.
func (r Request) body() ([]byte, error) {
	switch body := r.Body.(type) {
	case nil:
		return nil, nil
	case string:
		return []byte(body), nil
	case []byte:
		return body, nil
	default:
		return json.Marshal(body)
	}
}

// Response is a response whose body was read whole.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// Granted reports whether the status is one of success.
func (r Response) Granted() bool { return r.Status/100 == 2 }

// Cookie returns the cookie of that name which the response sets, or nil.
func (r Response) Cookie(name string) *http.Cookie {
	for _, cookie := range (&http.Response{Header: r.Header}).Cookies() {
		if cookie.Name == name {
			return cookie
		}
	}
	return nil
}

// Next returns the path of the list's next page, or "" at its end.
func (r Response) Next() string {
	for link := range strings.SplitSeq(r.Header.Get("Link"), ",") {
		target, rel, found := strings.Cut(link, ";")
		if found && strings.TrimSpace(rel) == `rel="next"` {
			return strings.Trim(strings.TrimSpace(target), "<>")
		}
	}
	return ""
}

// Do sends a request and reads the response, whatever its status. An error means that there is no whole response: the request
// may have been done or not.
func (c *Client) Do(ctx context.Context, r Request) (Response, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	response, err := c.send(ctx, r)
	if err != nil {
		return Response{}, fmt.Errorf("%s %s: %w", r.Method, r.Path, err)
	}
	return response, nil
}

func (c *Client) send(ctx context.Context, r Request) (Response, error) {
	response, err := c.open(ctx, r)
	if err != nil {
		return Response{}, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return Response{}, fmt.Errorf("read the body of a response with status %d: %w", response.StatusCode, err)
	}
	return Response{Status: response.StatusCode, Header: response.Header, Body: text}, nil
}

// open sends a request, and returns the response before its body.
func (c *Client) open(ctx context.Context, r Request) (*http.Response, error) {
	body, err := r.body()
	if err != nil {
		return nil, fmt.Errorf("encode the body: %w", err)
	}
	url := r.Path
	if strings.HasPrefix(url, "/") {
		url = c.baseURL + url
	}
	request, err := http.NewRequestWithContext(ctx, r.Method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if r.Body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	for name, values := range r.Header {
		if request.Header[name] = values; values[0] == "" {
			delete(request.Header, name)
		}
	}
	if host := r.Header.Get("Host"); host != "" {
		request.Host = host
	}
	return c.http.Do(request)
}

// Pages sends a request for a list, and then one for each further page. It ends with the list, or with the first page that is an
// error or not a 200.
func (c *Client) Pages(ctx context.Context, first Request) iter.Seq2[Response, error] {
	return func(yield func(Response, error) bool) {
		for next := first; next.Path != ""; {
			page, err := c.Do(ctx, next)
			if !yield(page, err) || err != nil || page.Status != http.StatusOK {
				return
			}
			next.Path = page.Next()
		}
	}
}

// Decode reads the value in the response of a Do. If the request was refused, the error is a *Problem.
func Decode[T any](response Response, err error) (T, error) {
	var value T
	switch {
	case err != nil:
		return value, err
	case !response.Granted():
		return value, problemOf(response)
	}
	if err := json.Unmarshal(response.Body, &value); err != nil {
		return value, fmt.Errorf("a body that is not readable, with status %d: %w: %.300s", response.Status, err, response.Body)
	}
	return value, nil
}
