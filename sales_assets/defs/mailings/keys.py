"""The asset keys of the mailings."""

import dagster as dg

CLIENT_CUSTOMER = dg.AssetKey(["mailings", "client_customer"])
CLIENT_TAG = dg.AssetKey(["mailings", "client_tag"])
F_MAILING_DELIVERIES = dg.AssetKey(["mart", "f_mailing_deliveries"])
F_MAILING_STATISTICS = dg.AssetKey(["mart", "f_mailing_statistics"])
