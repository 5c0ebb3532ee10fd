package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"golang.org/x/text/currency"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/rest"
	"boxoffice/services/internal/state"
)

// This file has the sales of a seller: the complete orders of the seller's tickets, also those that were cancelled later. An index for each
// seller lists them. An order gets its entry in the transaction that completes it. Orders that an earlier release completed have none.
//
// A seller sees what was sold and what was paid, and nothing of the buyer.

// salesOf is the index of a seller's sales, in the order in which they were made.
func salesOf(seller id.User) string { return "sales/" + string(seller) }

// addSale adds an order to the sales of its seller, if the change of the order completes it. An entry begins with an id that sorts by the
// time of the sale: the id of an order sorts by that of its reservation.
func addSale(change *state.Change, order Order) {
	if order.completes() && order.SellerID != "" {
		change.Append(salesOf(order.SellerID), id.New[string]()+"/"+string(order.ID))
	}
}

// completes reports whether the order's last change made it complete.
func (o *Order) completes() bool {
	return o.Status == Complete && !o.PassChanged && o.UpdatedAt.Equal(o.CompletedAt)
}

// keyOfSale is the key of the order of an index entry.
func keyOfSale(entry string) string {
	_, order, _ := strings.Cut(entry, "/")
	return orderKey(id.Order(order))
}

// SalesOf lists a seller's sales, newest first: of one show, or of all if show is "".
func (s *store) SalesOf(ctx context.Context, seller id.User, show id.Show, limit int, cursor string) ([]Order, string, error) {
	return state.List(ctx, s.documents, salesOf(seller), limit, cursor, keyOfSale, func(o Order) bool { return show == "" || o.Ticket.ShowID == show })
}

// saleResponse is a sale as its seller gets it.
type saleResponse struct {
	OrderID     id.Order        `json:"orderId"`
	TicketID    id.Ticket       `json:"ticketId"`
	ShowID      id.Show         `json:"showId,omitempty"`
	Title       string          `json:"title"`
	Seat        *placeResponse  `json:"seat,omitempty"`
	Price       int64           `json:"price"`
	Currency    string          `json:"currency"`
	Status      Status          `json:"status"`
	Reason      Reason          `json:"reason,omitempty"`
	SoldAt      clock.Timestamp `json:"soldAt"`
	CancelledAt clock.Timestamp `json:"cancelledAt,omitzero"`
}

func saleResponseOf(o Order) saleResponse {
	response := saleResponse{
		OrderID:  o.ID,
		TicketID: o.Ticket.ID,
		ShowID:   o.Ticket.ShowID,
		Title:    o.Ticket.Title,
		Seat:     placeResponseOf(o.Ticket.Place),
		Price:    o.Ticket.Price,
		Currency: o.Ticket.Currency,
		Status:   o.Status,
		Reason:   o.Reason,
		SoldAt:   clock.Stamp(o.CompletedAt),
	}
	if o.IsCancelled() {
		response.CancelledAt = clock.Stamp(o.UpdatedAt)
	}
	return response
}

// csvType is the media type of the file of sales.
const csvType = "text/csv"

// salesForms are the forms of a seller's sales.
var salesForms = []form{{"json", fiber.MIMEApplicationJSON}, {"csv", csvType}}

// sales responds with a page of the caller's sales, or with all of them as a file.
func (a *api) sales(c *fiber.Ctx) error {
	limit, cursor, err := rest.Paging(c)
	if err != nil {
		return err
	}
	show, err := rest.QueryID[id.Show](c, "showId")
	if err != nil {
		return err
	}
	mediaType, err := formOf(c, salesForms)
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderCacheControl, "private, no-store")
	c.Vary(fiber.HeaderAccept)
	seller := identity.UserIDOf(c)
	if mediaType == csvType {
		return a.salesFile(c, seller, show)
	}
	sales, next, err := a.store.SalesOf(rest.Context(c), seller, show, limit, cursor)
	if err != nil {
		return err
	}
	return rest.SendPage(c, sales, next, saleResponseOf)
}

const (
	// salesAtOnce is how many sales of a file are in memory at a time.
	salesAtOnce = 200
	// salesFileTime bounds the making of a file, like that of every response.
	salesFileTime = 30 * time.Second
)

// salesFile responds with all sales as CSV (RFC 4180). Its first sales are read before, so that a store that is away has its usual response.
// If it is away later, the connection breaks, and the client sees that the file is not whole.
func (a *api) salesFile(c *fiber.Ctx, seller id.User, show id.Show) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(rest.Context(c)), salesFileTime)
	file := &salesReader{cancel: cancel, page: func(cursor string) ([]Order, string, error) {
		return a.store.SalesOf(ctx, seller, show, salesAtOnce, cursor)
	}}
	if err := file.readFirst(); err != nil {
		cancel()
		return err
	}
	c.Set(fiber.HeaderContentType, csvType+"; charset=utf-8; header=present")
	c.Set(fiber.HeaderContentDisposition, `attachment; filename="sales.csv"`)
	c.Context().SetBodyStream(file, -1)
	return nil
}

// salesColumns are the names of the columns. An amount is the price in the currency's major unit, "12.00": sellers read it in a spreadsheet.
var salesColumns = []string{"orderId", "ticketId", "showId", "title", "section", "row", "number", "amount", "currency", "status", "reason", "soldAt", "cancelledAt"}

func salesRow(o Order) []string {
	sale := saleResponseOf(o)
	place := cmp.Or(sale.Seat, &placeResponse{})
	row := []string{
		string(sale.OrderID), string(sale.TicketID), string(sale.ShowID), sale.Title, place.Section, place.Row, place.Number,
		decimal(sale.Price, sale.Currency), sale.Currency, string(sale.Status), string(sale.Reason), textOf(sale.SoldAt), textOf(sale.CancelledAt),
	}
	for i, cell := range row {
		row[i] = harmless(cell)
	}
	return row
}

// decimal writes an amount of the minor unit in the currency's major unit: 1200 and "usd" are "12.00".
func decimal(amount int64, code string) string {
	digits := 2
	if unit, err := currency.ParseISO(code); err == nil {
		digits, _ = currency.Standard.Rounding(unit)
	}
	return strconv.FormatFloat(float64(amount)/math.Pow10(digits), 'f', digits, 64)
}

// textOf is a time as JSON has it; "" if it is zero.
func textOf(t clock.Timestamp) string {
	if t.IsZero() {
		return ""
	}
	return t.String()
}

// formula matches what a spreadsheet may take for the begin of a formula. Where the comma is the decimal sign, as in German, spreadsheets
// begin a cell at each semicolon, also in a cell with quotes.
var formula = regexp.MustCompile(`(^|;)([\s"]*[=+\-@]|\t)`)

// harmless returns a cell in which no spreadsheet finds a formula.
func harmless(cell string) string { return formula.ReplaceAllString(cell, "$1'$2") }

// salesReader reads the file of sales, one page of them at a time.
type salesReader struct {
	page   func(cursor string) (sales []Order, next string, err error)
	cancel context.CancelFunc
	buffer bytes.Buffer
	cursor string // of the next page
	ended  bool
}

// readFirst reads the names of the columns and the first page.
func (r *salesReader) readFirst() error {
	if err := r.write([][]string{salesColumns}); err != nil {
		return err
	}
	return r.readPage()
}

func (r *salesReader) readPage() error {
	sales, next, err := r.page(r.cursor)
	if err != nil {
		return err
	}
	r.cursor, r.ended = next, next == ""
	rows := make([][]string, len(sales))
	for i, order := range sales {
		rows[i] = salesRow(order)
	}
	return r.write(rows)
}

func (r *salesReader) write(rows [][]string) error {
	w := csv.NewWriter(&r.buffer)
	w.UseCRLF = true
	return w.WriteAll(rows)
}

// Read implements io.Reader.
func (r *salesReader) Read(into []byte) (int, error) {
	for r.buffer.Len() == 0 && !r.ended {
		if err := r.readPage(); err != nil {
			return 0, err
		}
	}
	return r.buffer.Read(into)
}

// Close implements io.Closer: the response is written, or its client has gone.
func (r *salesReader) Close() error {
	r.cancel()
	return nil
}
