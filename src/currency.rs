//! Currencies, by their ISO 4217 codes.

use std::fmt;

use serde::{Serialize, Serializer};

/// The codes of ISO 4217 that money is counted in. Without funds, metals and codes for tests.
const CODES: &str = "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF \
    CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR \
    ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU \
    MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD \
    SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND VUV WST XAF XCD XCG \
    XOF XPF YER ZAR ZMW ZWG";

/// A currency that ISO 4217 knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency([u8; 3]);

impl Currency {
    /// Stands where neither a file nor a flag says the currency; such a file is refused.
    pub const UNKNOWN: Currency = Currency(*b"???");

    /// The currency of this code, in capitals or not.
    pub fn from_code(text: &str) -> Option<Currency> {
        let code: [u8; 3] = text
            .trim()
            .to_ascii_uppercase()
            .as_bytes()
            .try_into()
            .ok()?;
        CODES
            .split_ascii_whitespace()
            .any(|known| known.as_bytes() == code)
            .then_some(Currency(code))
    }

    /// Reads the value of `--currency`.
    ///
    /// # Errors
    /// A message for the user.
    pub fn from_flag(text: &str) -> Result<Currency, String> {
        Currency::from_code(text)
            .ok_or_else(|| format!("'{text}' is not a currency of ISO 4217 such as EUR"))
    }

    /// The code, in capitals.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("")
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_currencies_that_exist() {
        assert_eq!(
            Currency::from_code(" eur ")
                .map(|c| c.to_string())
                .as_deref(),
            Some("EUR")
        );
        for text in ["", "EU", "EURO", "XXX", "ABC", "€"] {
            assert_eq!(Currency::from_code(text), None, "{text}");
        }
    }
}
