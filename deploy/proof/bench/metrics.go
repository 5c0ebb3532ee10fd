package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// sample is one line of a page of metrics.
type sample struct {
	name, labels string
	value        float64
}

// label is the value of a label; "" if the sample has no such label.
func (s sample) label(name string) string {
	_, rest, found := strings.Cut(s.labels, name+`="`)
	if !found {
		return ""
	}
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

// scrape calls each with the samples of a page of metrics in Prometheus' text format.
func scrape(ctx context.Context, url string, each func(sample)) error {
	response, err := get(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || line[0] == '#' {
			continue
		}
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return fmt.Errorf("%s: %q is not a sample", url, line)
		}
		name, labels, _ := strings.Cut(line[:at], "{")
		each(sample{name, labels, value})
	}
	return lines.Err()
}

func get(ctx context.Context, url string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("%s: status %d", url, response.StatusCode), response.Body.Close())
	}
	return response, nil
}
