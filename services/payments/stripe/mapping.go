package stripe

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	stripego "github.com/stripe/stripe-go/v76"

	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
	"boxoffice/services/payments/domain"
)

// intentStatuses are Stripe's, in the order in which an intent goes through them. Canceled is the first: such an intent has
// no money.
var intentStatuses = []stripego.PaymentIntentStatus{
	stripego.PaymentIntentStatusCanceled,
	stripego.PaymentIntentStatusRequiresPaymentMethod, stripego.PaymentIntentStatusRequiresConfirmation, stripego.PaymentIntentStatusRequiresAction,
	stripego.PaymentIntentStatusProcessing, stripego.PaymentIntentStatusRequiresCapture, stripego.PaymentIntentStatusSucceeded,
}

// intentOf maps Stripe's PaymentIntent.
func intentOf(from *stripego.PaymentIntent) domain.Intent {
	to := domain.Intent{ID: from.ID, ClientSecret: from.ClientSecret, Status: domain.Pending}
	charge := from.LatestCharge
	if charge != nil {
		to.ChargeID = charge.ID
	}
	switch from.Status {
	case stripego.PaymentIntentStatusRequiresPaymentMethod:
		if last := from.LastPaymentError; last != nil {
			to.Status = domain.Failed
			to.DeclineCode, to.DeclineMessage = declineCode(last), last.Msg
		}
	case stripego.PaymentIntentStatusRequiresAction:
		to.Status = domain.RequiresAction
		if next := from.NextAction; next != nil && next.RedirectToURL != nil {
			to.RedirectURL = next.RedirectToURL.URL
		}
	case stripego.PaymentIntentStatusRequiresCapture:
		to.Status = domain.Authorized
	case stripego.PaymentIntentStatusCanceled:
		to.Status = domain.Voided
	case stripego.PaymentIntentStatusSucceeded:
		to.Status = domain.Captured
		if charge != nil && charge.Captured {
			setRefunded(&to, charge)
		}
	}
	return to
}

// intentOfCharge maps a charge to what is known of its intent. The intent has no id.
func intentOfCharge(from *stripego.Charge) domain.Intent {
	to := domain.Intent{ChargeID: from.ID, Status: domain.Unknown}
	switch {
	case from.Status == stripego.ChargeStatusFailed:
		to.Status, to.DeclineCode = domain.Failed, from.FailureCode
		if from.Outcome != nil && from.Outcome.Reason != "" {
			to.DeclineCode = from.Outcome.Reason
		}
	case from.Status != stripego.ChargeStatusSucceeded:
	case from.Captured:
		to.Status = domain.Captured
		setRefunded(&to, from)
	case from.Refunded:
		to.Status = domain.Voided
	default:
		to.Status = domain.Authorized
	}
	return to
}

// setRefunded sets what a captured charge shows of refunds and disputes. Stripe counts what was never captured as refunded.
func setRefunded(to *domain.Intent, charge *stripego.Charge) {
	to.Refunded = charge.AmountRefunded - max(charge.Amount-charge.AmountCaptured, 0)
	to.Disputed = charge.Disputed
	if to.Refunded > 0 && to.Refunded >= charge.AmountCaptured {
		to.Status = domain.Refunded
	}
}

func disputeOf(from *stripego.Dispute) domain.Dispute {
	return domain.Dispute{ID: from.ID, Status: string(from.Status), Reason: string(from.Reason), Amount: from.Amount}
}

func listedOf(from *stripego.PaymentIntent) Listed {
	return Listed{
		Intent: intentOf(from), OrderID: id.Order(from.Metadata[metadataOrder]), UserID: id.User(from.Metadata[metadataUser]), Origin: from.Metadata[metadataOrigin],
		Amount: from.Amount, Currency: string(from.Currency), CreatedAt: time.Unix(from.Created, 0).UTC(),
	}
}

// result maps Stripe's response to a request for an intent. Two kinds of errors contain the intent, and are no errors here: a
// decline, and that the intent's state does not allow the request.
func result(intent *stripego.PaymentIntent, err error) (domain.Intent, http.Header, error) {
	if err == nil {
		return intentOf(intent), intent.LastResponse.Header, nil
	}
	failure, ok := errors.AsType[*stripego.Error](err)
	if ok && failure.PaymentIntent != nil && (failure.Type == stripego.ErrorTypeCard || failure.Code == stripego.ErrorCodePaymentIntentUnexpectedState) {
		return intentOf(failure.PaymentIntent), headerOf(err), nil
	}
	return domain.Intent{}, headerOf(err), err
}

// headerOf are the headers of the response that the error was made of; nil if there was none.
func headerOf(err error) http.Header {
	if failure, ok := errors.AsType[*stripego.Error](err); ok && failure.LastResponse != nil {
		return failure.LastResponse.Header
	}
	return nil
}

// declineCode is the bank's reason if Stripe has it, else Stripe's own.
func declineCode(e *stripego.Error) string {
	if e.DeclineCode != "" {
		return string(e.DeclineCode)
	}
	return string(e.Code)
}

// problemOf maps an error of stripe-go; what is in the error, for what was tried.
func problemOf(err error, what string) error {
	if err == nil {
		return nil
	}
	failure, ok := errors.AsType[*stripego.Error](err)
	if ok { // the error's text is logged, and has all its members: the client secret would be among them
		failure.PaymentIntent, failure.PaymentMethod = nil, nil
	}
	err = fmt.Errorf("%s: %w", what, err)
	if !ok {
		return domain.ErrProcessorUnavailable.Because(err) // no response that can be read: the network, a deadline, a proxy
	}
	about := func(param string) bool { return strings.Contains(failure.Param, param) }
	switch {
	case failure.Type == stripego.ErrorTypeCard:
		return domain.DeclinedCard(declineCode(failure), failure.Msg).Because(err)
	case failure.HTTPStatusCode == http.StatusTooManyRequests, failure.HTTPStatusCode == http.StatusConflict, failure.HTTPStatusCode >= 500:
		return domain.ErrProcessorUnavailable.Because(err)
	case failure.HTTPStatusCode == http.StatusBadRequest && about("token"):
		return problem.New(problem.Invalid, codeOf(failure), "%s", failure.Msg).WithField("token").Because(err)
	case failure.HTTPStatusCode == http.StatusBadRequest && about("payment_method"):
		return problem.New(problem.Invalid, codeOf(failure), "%s", failure.Msg).WithField("paymentMethod").Because(err)
	case failure.Code == stripego.ErrorCodeAmountTooSmall, failure.Code == stripego.ErrorCodeAmountTooLarge:
		return problem.New(problem.Invalid, string(failure.Code), "This order's price cannot be charged to a card: %s.", strings.TrimSuffix(failure.Msg, ".")).
			WithField("orderId").Because(err)
	}
	return err
}

// codeOf is Stripe's code of a failure, or "invalid" if Stripe gives none.
func codeOf(failure *stripego.Error) string { return cmp.Or(string(failure.Code), "invalid") }

// logger writes stripe-go's log lines to the service's log. An error is returned to the caller, too, so its line is a detail.
type logger struct{ log *slog.Logger }

func (logger) Debugf(string, ...any) {} // whole bodies, with client secrets
func (l logger) Infof(format string, args ...any) {
	l.log.Debug("stripe: " + fmt.Sprintf(format, args...))
}
func (l logger) Warnf(format string, args ...any) {
	l.log.Warn("stripe: " + fmt.Sprintf(format, args...))
}
func (l logger) Errorf(format string, args ...any) {
	l.log.Debug("stripe: " + fmt.Sprintf(format, args...))
}
