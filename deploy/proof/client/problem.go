package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Problem is a refusal: the body of a response with application/problem+json (RFC 9457).
type Problem struct {
	Type      string          `json:"type"`
	Title     string          `json:"title"`
	Status    int             `json:"status"`
	Detail    string          `json:"detail"`
	Errors    []ProblemDetail `json:"errors"`
	RequestID string          `json:"requestId"`
	// OrderID is the user's order that has the ticket, with the code own_reservation.
	OrderID string `json:"orderId"`
	// MaxPrice is the highest price that the show allows, with the code price_above_cap.
	MaxPrice int64 `json:"maxPrice"`
	// RetryAfter is how long to wait before the next request, if the response named a time.
	RetryAfter time.Duration `json:"-"`
}

// ProblemDetail is one reason of a refusal. Field is the member of the request that it concerns.
type ProblemDetail struct {
	Message string `json:"message"`
	Field   string `json:"field"`
	Code    string `json:"code"`
}

// Error implements error.
func (p *Problem) Error() string {
	return fmt.Sprintf("refused with %s: %s", strings.TrimSpace(fmt.Sprint(p.Status, " ", p.Code())), p.Detail)
}

// Code is the code of the first reason, or "".
func (p *Problem) Code() string {
	if len(p.Errors) == 0 {
		return ""
	}
	return p.Errors[0].Code
}

// Problem reads the response's body. It fails if that is not a problem.
func (r Response) Problem() (Problem, error) {
	var p Problem
	if err := json.Unmarshal(r.Body, &p); err != nil {
		return p, fmt.Errorf("read the problem of a response with status %d: %w: %.300s", r.Status, err, r.Body)
	}
	if seconds, err := strconv.Atoi(r.Header.Get("Retry-After")); err == nil {
		p.RetryAfter = time.Duration(seconds) * time.Second
	}
	return p, nil
}

// Code is the code of a refusal's first reason, or "".
func (r Response) Code() string {
	p, err := r.Problem()
	if err != nil {
		return ""
	}
	return p.Code()
}

// problemOf is the problem of a refusal. What has no readable one has its text as Detail.
func problemOf(r Response) *Problem {
	p, err := r.Problem()
	if err != nil {
		p = Problem{Detail: fmt.Sprintf("%.300s", r.Body)}
	}
	p.Status = r.Status
	return &p
}

// Status is the status of the refusal in err, or 0 if there is none.
func Status(err error) int {
	var p *Problem
	if errors.As(err, &p) {
		return p.Status
	}
	return 0
}
