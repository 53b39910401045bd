//! The project of the demonstration: small, in Python's standard library alone, with one bug and
//! the one test that finds it.

/// Where the bug is.
pub(crate) const BROKEN_FILE: &str = "shop/basket.py";
/// The test that fails.
pub(crate) const TEST_FILE: &str = "tests/test_basket.py";
/// The bug.
pub(crate) const BROKEN_LINE: &str = "        if self.subtotal() > FREE_SHIPPING_FROM:";
/// Without it.
pub(crate) const REPAIRED_LINE: &str = "        if self.subtotal() >= FREE_SHIPPING_FROM:";

/// The demonstration's files, as paths relative to its root and contents. The demonstration brain
/// knows how to make its failing test pass.
pub fn demo_repository() -> &'static [(&'static str, &'static str)] {
    &[
        ("README.md", README),
        (".gitignore", "__pycache__/\n"),
        ("shop/__init__.py", ""),
        (BROKEN_FILE, BASKET),
        ("tests/__init__.py", ""),
        (TEST_FILE, TESTS),
    ]
}

const README: &str = r"# A small shop

A basket that adds up what is in it and knows what shipping costs.

    python3 -m unittest

One of the tests fails. Ask the agent: *fix the failing test*.
";

const BASKET: &str = r#""""A shopping basket. Amounts are in cents."""

FREE_SHIPPING_FROM = 50_00
SHIPPING = 4_90


class Basket:
    def __init__(self):
        self._lines = []

    def add(self, article, price, quantity=1):
        """Puts `quantity` pieces of an article into the basket."""
        if quantity < 1:
            raise ValueError("a basket holds at least one piece of an article")
        self._lines.append((article, price, quantity))

    def subtotal(self):
        """What the articles cost, without shipping."""
        return sum(price * quantity for _, price, quantity in self._lines)

    def shipping(self):
        """Orders of 50.00 and more are shipped for free."""
        if self.subtotal() > FREE_SHIPPING_FROM:
            return 0
        return SHIPPING

    def total(self):
        """What the customer pays."""
        return self.subtotal() + self.shipping()
"#;

const TESTS: &str = r"import unittest

from shop.basket import SHIPPING, Basket


class BasketTest(unittest.TestCase):
    def test_an_articles_price_counts_once_for_each_piece(self):
        basket = Basket()
        basket.add('tea', 4_50, quantity=2)
        self.assertEqual(basket.subtotal(), 9_00)

    def test_a_small_order_pays_for_shipping(self):
        basket = Basket()
        basket.add('tea', 4_50)
        self.assertEqual(basket.total(), 4_50 + SHIPPING)

    def test_an_order_of_exactly_fifty_ships_for_free(self):
        basket = Basket()
        basket.add('kettle', 50_00)
        self.assertEqual(basket.total(), 50_00)

    def test_no_pieces_of_an_article_are_refused(self):
        with self.assertRaises(ValueError):
            Basket().add('tea', 4_50, quantity=0)


if __name__ == '__main__':
    unittest.main()
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bug_stands_once_in_the_file_it_is_said_to_be_in() {
        let file = |name| demo_repository().iter().find(|(path, _)| *path == name);
        let (_, basket) = file(BROKEN_FILE).unwrap();
        assert_eq!(basket.matches(BROKEN_LINE).count(), 1);
        assert!(file(TEST_FILE).is_some());
    }
}
