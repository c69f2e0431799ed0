//! Which texts are numbers that survive the way to the ledger and back.

use serde_json::Number;

/// The number a text stands for, if it is spelled as JSON spells numbers and none of its digits
/// would be lost. `39.10` is a number, for it equals `39.1`; `007`, `1e400` and a 30-digit account
/// number are not.
pub fn exact(text: &str) -> Option<Number> {
    let spelled =
        text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) && text.ends_with(|c: char| c.is_ascii_digit());
    let number: Number = if spelled { serde_json::from_str(text).ok()? } else { return None };
    (decimal(text)? == decimal(&number.to_string())?).then_some(number)
}

/// Sign, significant digits and exponent of ten: equal for equal numbers.
fn decimal(text: &str) -> Option<(bool, String, i64)> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Some((negative, String::new(), 0));
    }
    let trailing_zeros = digits.len() - digits.trim_end_matches('0').len();
    let shift = i64::try_from(trailing_zeros).ok()? - i64::try_from(fraction.len()).ok()?;
    Some((negative, significant.to_owned(), exponent.parse::<i64>().ok()?.checked_add(shift)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_kept_and_what_would_lose_a_digit_is_not_one() {
        let numbers =
            ["0", "7", "-7", "39.81", "39.10", "100", "1e3", "1.5E-7", "18446744073709551615", "-0", "0.0", "1E+2"];
        for text in numbers {
            assert!(exact(text).is_some(), "{text}");
        }
        let texts = [
            "",
            "-",
            "007",
            "+7",
            " 7",
            "7 ",
            ".5",
            "5.",
            "1,000",
            "0x10",
            "NaN",
            "inf",
            "1e",
            "1e400",
            "--7",
            "7\n",
            "123456789012345678901234567890",
            "0.12345678901234567890123",
            "1_000",
            "٣",
            "true",
        ];
        for text in texts {
            assert_eq!(exact(text), None, "{text}");
        }
    }

    #[test]
    fn a_number_prints_as_the_same_number() {
        assert_eq!(exact("39.10").unwrap().to_string(), "39.1");
        assert_eq!(exact("18446744073709551615").unwrap().as_u64(), Some(u64::MAX));
        assert_eq!(exact("-9223372036854775808").unwrap().as_i64(), Some(i64::MIN));
    }
}
