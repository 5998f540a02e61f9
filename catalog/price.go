package catalog

import (
	"math"
	"strconv"
	"strings"
)

const (
	nanoDigits = 9
	nano       = 1_000_000_000
	// maxPrice is the highest price of a million tokens, in whole units: in
	// nano-units it has room in 64 bits.
	maxPrice = 1_000_000_000
)

// InputNano is the price of a million prompt tokens in nano-units (10⁻⁹) of the
// bill's currency, exactly.
func (m Model) InputNano() int64 { return priceNano(m.InputPrice) }

// OutputNano is InputNano for tokens of the answer.
func (m Model) OutputNano() int64 { return priceNano(m.OutputPrice) }

// priceNano reads a price as validate has let it through. Before there was a
// highest price higher ones may have been stored: they count as that one.
func priceNano(price string) int64 {
	whole, part, _ := strings.Cut(price, ".")
	if len(part) > nanoDigits {
		part = part[:nanoDigits]
	}
	units, err := strconv.ParseInt(whole, 10, 64)
	if err != nil && whole != "" {
		units = math.MaxInt64
	}
	if units >= maxPrice {
		return maxPrice * nano
	}
	fraction, _ := strconv.ParseInt(part+strings.Repeat("0", nanoDigits-len(part)), 10, 64) // digits alone
	return units*nano + fraction
}

// price checks a price's text.
func price(field, value string) error {
	if err := match(field, value, pricePattern, "a decimal with at most 6 digits after the point"); err != nil {
		return err
	}
	whole, part, _ := strings.Cut(value, ".")
	units, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || units > maxPrice || units == maxPrice && strings.Trim(part, "0") != "" {
		return wrong(field, "want %d at most", maxPrice)
	}
	return nil
}
